package nn

import (
	"fmt"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// Forward runs the block over one window: x [T, D] is replaced by the block's output.
//
// Beside the weights it holds 4*(T*(2D + 2HK + 2GK + H) + 2*min(T, 1024)*F) bytes on the device, H*T more floats for
// column sums, T*(2HK + H) for a Mix, and T instead of min(T, 1024) rows of the FFN under a Tap or a stop; the host holds 4*T*K bytes of rotary
// tables. This memory belongs to the model and is reused: calls of a size seen before allocate no buffer.
func (b *Block) Forward(x []float32, t int, p *Pass) error {
	if p == nil {
		p = &Pass{}
	}
	s := &b.model.scratch
	s.swapAttn(p.acts)
	stopped, err := b.part(x, t, p, b.attention)
	s.swapAttn(p.acts)
	if err == nil && p.acts != nil {
		p.acts.mid = append(p.acts.mid[:0], x[:t*b.model.Arch.D]...)
	}
	if err == nil && !stopped {
		_, err = b.part(x, t, p, b.ffn)
	}
	return err
}

// Attend is the first half of Forward, attention alone: x becomes what enters the feed-forward sub-layer.
func (b *Block) Attend(x []float32, t int, p *Pass) error {
	_, err := b.part(x, t, p, b.attention)
	return err
}

// FeedForward is the second half of Forward, from what Attend has left.
func (b *Block) FeedForward(x []float32, t int, p *Pass) error {
	_, err := b.part(x, t, p, b.ffn)
	return err
}

// Project is the end of either half: it adds the output of the projection O or Down to x [T, D], for its input
// in [T, In] as a Tap shows it. Bits are those of Forward.
func (b *Block) Project(x []float32, r arch.Role, in []float32, t int) error {
	l := b.linears[r]
	if r != arch.O && r != arch.Down || l.w == nil {
		panic(fmt.Sprintf("nn: Project by %s", r))
	}
	if len(in) < t*l.in {
		panic(fmt.Sprintf("nn: Project of %d values for %d positions of width %d", len(in), t, l.in))
	}
	_, err := b.part(x, t, nil, func(x []float32, t int, _ *Pass) (bool, error) {
		s, dev := &b.model.scratch, b.model.Dev
		buf := map[arch.Role]*device.Buf{arch.O: &s.o, arch.Down: &s.up}[r]
		if err := s.fit(want{buf, t, l.in}); err != nil {
			return false, err
		}
		dev.Upload(*buf, 0, in[:t*l.in])
		dev.Upload(s.x, 0, x)
		b.addOutput(x, *buf, r, t, &Pass{})
		return false, nil
	})
	return err
}

// part runs one half of the block over x.
func (b *Block) part(x []float32, t int, p *Pass, half func(x []float32, t int, p *Pass) (bool, error)) (stop bool, err error) {
	m := b.model
	if t <= 0 || len(x) < t*m.Arch.D {
		panic(fmt.Sprintf("nn: pass of %d values for %d positions of width %d", len(x), t, m.Arch.D))
	}
	if p == nil {
		p = &Pass{}
	}
	s := &m.scratch
	if err = s.fit(want{&s.x, t, m.Arch.D}, want{&s.n, t, m.Arch.D}); err == nil {
		stop, err = half(x[:t*m.Arch.D], t, p)
	}
	if err != nil {
		return false, fmt.Errorf("nn: layer %d: %w", b.index, err)
	}
	return stop, nil
}

// addOutput adds the output of a projection for its input to the states in scratch, and copies them to x.
func (b *Block) addOutput(x []float32, in device.Buf, r arch.Role, t int, p *Pass) {
	s, dev := &b.model.scratch, b.model.Dev
	b.linear(s.n, in, r, t)
	if g := gatesOf(p.Gates); g.Hidden != nil {
		dev.ScaleColumns(s.n, s.n, g.Hidden, t, b.model.Arch.D)
	}
	dev.Add(s.x, s.n, t*b.model.Arch.D)
	dev.Download(x, s.x, 0)
}

// mix computes both attentions of a Mix and their blend.
func (b *Block) mix(x *Mix, shape device.AttnShape, masks []device.Mask) error {
	s, dev, hk := &b.model.scratch, b.model.Dev, shape.H*shape.K
	if err := s.fit(want{&s.full, shape.T, hk}, want{&s.other, shape.T, hk}, want{&s.lse2, shape.H, shape.T}); err != nil {
		return err
	}
	dev.Attention(s.full, s.lse, s.q, s.k, s.v, shape, masks)
	dev.Attention(s.other, s.lse2, s.q, s.k, s.v, shape, x.Masks)
	dev.MixHeads(s.o, s.full, s.other, x.Alpha, shape)
	return nil
}

// ffn adds the feed-forward sub-layer to x, some rows at a time unless a tap wants to see them all.
func (b *Block) ffn(x []float32, t int, p *Pass) (stop bool, err error) {
	a, s, d := b.arch, &b.model.scratch, b.model.Arch.D
	if !a.HasFFN() {
		return false, nil
	}
	rows := min(t, ffnRows)
	if p.Tap != nil || p.TapBuf != nil || p.HasStop {
		rows = t
	}
	for lo := 0; lo < t && !stop && err == nil; lo += rows {
		hi := min(t, lo+rows)
		s.swapFFN(p.acts, lo/rows)
		if err = s.fit(want{&s.gate, hi - lo, a.F}, want{&s.up, hi - lo, a.F}); err == nil && p.acts != nil {
			err = s.fit(want{&s.back.hid, rows, a.F})
		}
		if err == nil {
			stop = b.ffnPart(x[lo*d:hi*d], hi-lo, p)
		}
		s.swapFFN(p.acts, lo/rows)
	}
	return stop, err
}

func (b *Block) ffnPart(x []float32, t int, p *Pass) (stop bool) {
	a, s, m := b.arch, &b.model.scratch, b.model
	m.Dev.Upload(s.x, 0, x)
	b.normalize(s.n, s.x, b.ffnNorm, t)
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

func (b *Block) normalize(y, x device.Buf, n norm, t int) { b.model.normalize(y, x, n, t) }

// linear computes y = x·Wᵀ + b of a projection over t rows.
func (b *Block) linear(y, x device.Buf, r arch.Role, t int) {
	l := b.linears[r]
	b.model.Dev.MatMulNT(y, x, l.w, t, l.out, l.in, 0)
	if l.b != nil {
		b.model.Dev.AddBias(y, l.b, t, l.out)
	}
}

// tap shows the input of a site to the pass and reports whether the pass stops there.
func (b *Block) tap(p *Pass, site Site, x device.Buf, rows, cols int) bool {
	if p.Tap != nil {
		p.Tap(site, b.model.scratch.view(0, x, rows*cols), rows, cols)
	}
	if p.TapBuf != nil {
		p.TapBuf(site, x, rows, cols)
	}
	return p.HasStop && p.StopAfter == site
}
