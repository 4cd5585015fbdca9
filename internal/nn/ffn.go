package nn

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// How many rows the FFN takes at once: ffnRows, up to mostRows on a device with a memory of its own, and no fewer than leastRows where
// memory is short. Every row is computed on its own, so the number changes no bit.
const (
	ffnRows   = 1024
	mostRows  = 8192
	leastRows = 64
)

// ffnRows is how many of t rows the FFN takes at once. What is kept for the way back lies in parts of ffnRows, and a tap or a stop sees
// all rows.
func (b *Block) ffnRows(t int, p *Pass) (rows int, fixed bool) {
	if p.Tap != nil || p.TapBuf != nil || p.HasStop {
		return t, true
	}
	rows = min(t, ffnRows)
	dev, ok := b.model.Dev.(device.Remote)
	if p.acts != nil || !ok {
		return rows, p.acts != nil
	}
	s, f := &b.model.scratch, b.arch.F
	have := min(lengthOf(s.gate), lengthOf(s.up))
	for rows < min(t, mostRows) {
		next := min(2*rows, t, mostRows)
		if next*f > have && dev.Room()/4 < 8*int64(next*f-have) {
			break
		}
		rows = next
	}
	return rows, false
}

func lengthOf(b device.Buf) int {
	if b == nil {
		return 0
	}
	return b.Len()
}

// ffn adds the feed-forward sub-layer to x, some rows at a time.
func (b *Block) ffn(x device.Buf, t int, p *Pass) (stop bool, err error) {
	a, s, d := b.arch, &b.model.scratch, b.model.Arch.D
	if !a.HasFFN() {
		return false, nil
	}
	rows, fixed := b.ffnRows(t, p)
	for lo := 0; lo < t && !stop; lo += rows {
		s.swapFFN(p.acts, lo/rows)
		if rows, err = b.ffnRoom(t-lo, rows, fixed, p); err == nil {
			n := min(rows, t-lo)
			stop = b.ffnPart(b.model.Dev.Slice(x, lo*d, n*d), n, p)
		}
		s.swapFFN(p.acts, lo/rows)
		if err != nil {
			return false, err
		}
	}
	return stop, nil
}

// ffnRoom makes room for a number of rows of the FFN, of which so many are left, or for fewer where that may be. It returns the number.
func (b *Block) ffnRoom(left, rows int, fixed bool, p *Pass) (int, error) {
	s, f := &b.model.scratch, b.arch.F
	for {
		n := min(rows, left)
		wants := []want{{&s.gate, n, f}, {&s.up, n, f}}
		if p.acts != nil {
			wants = append(wants, want{&s.back.hid, rows, f})
		}
		if fixed || rows <= leastRows {
			return rows, s.fit(wants...)
		}
		if s.try(wants...) == nil {
			return rows, nil
		}
		release([]device.Buf{s.gate, s.up}) // one of them may have got more than its share
		s.gate, s.up = nil, nil
		rows = max(leastRows, rows/2)
	}
}

func (b *Block) ffnPart(x device.Buf, t int, p *Pass) (stop bool) {
	a, s, m := b.arch, &b.model.scratch, b.model
	b.normalize(s.n, x, b.ffnNorm, t)
	if b.tap(p, SiteGateUp, s.n, t, m.Arch.D) {
		return true
	}
	b.linear(s.up, s.n, arch.Up, t)
	act := s.up
	if p.acts != nil {
		act = s.back.hid
	}
	switch {
	case b.linears[arch.Gate].w != nil:
		b.linear(s.gate, s.n, arch.Gate, t)
		m.Dev.SiLUMul(act, s.gate, s.up, t*a.F)
	default:
		m.Dev.GELU(act, s.up, t*a.F, m.Arch.Act == arch.GELUTanh)
	}
	if g := gatesOf(p.Gates); g.FFN != nil {
		m.Dev.ScaleColumns(act, act, g.FFN, t, a.F)
	}
	if b.tap(p, SiteDown, act, t, a.F) {
		return true
	}
	b.addOutput(x, act, arch.Down, t, p)
	return false
}
