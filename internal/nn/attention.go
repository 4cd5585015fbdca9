package nn

import (
	"math"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// attention adds the attention sub-layer to x, in one operation at its end. It reports whether the pass stops here.
func (b *Block) attention(x device.Buf, t int, p *Pass) (stop bool, err error) {
	a, s := b.arch, &b.model.scratch
	if !a.HasAttention() {
		return p.HasStop && p.StopAfter <= SiteO, nil
	}
	hk, gk := a.H*a.K, a.G*a.K
	if err := s.fit(want{&s.q, t, hk}, want{&s.o, t, hk}, want{&s.k, t, gk}, want{&s.v, t, gk}, want{&s.lse, a.H, t}); err != nil {
		return false, err
	}
	b.normalize(s.n, x, b.attnNorm, t)
	if b.tap(p, SiteQKV, s.n, t, b.model.Arch.D) {
		return true, nil
	}
	if stop, err := b.project(t, p); stop || err != nil {
		return stop, err
	}
	shape, masks := b.shape(t, p.Sequences), b.masksOf(p)
	if err := b.attend(p, shape, masks); err != nil {
		return false, err
	}
	if err := b.tapAttn(p, shape, masks); err != nil {
		return false, err
	}
	out, err := b.gateHeads(gatesOf(p.Gates), t)
	if err != nil {
		return false, err
	}
	if b.tap(p, SiteO, out, t, hk) {
		return true, nil
	}
	b.addOutput(x, out, arch.O, t, p)
	return false, nil
}

// try makes room for a pass of t positions with as few rows of the FFN as may be, and for their states, where that costs little. Where it
// would cost more, all room is given back.
func (b *Block) try(t int) error {
	a, s, d := b.arch, &b.model.scratch, b.model.Arch.D
	hk, gk, rows := a.H*a.K, a.G*a.K, min(t, leastRows)
	err := s.try(want{&s.run, t, d}, want{&s.n, t, d}, want{&s.q, t, hk}, want{&s.o, t, hk}, want{&s.k, t, gk}, want{&s.v, t, gk},
		want{&s.lse, a.H, t}, want{&s.gate, rows, a.F}, want{&s.up, rows, a.F})
	if err != nil {
		s.drop()
	}
	return err
}

// shape is that of attention over t rows of so many sequences of one length; 0 means one.
func (b *Block) shape(t, sequences int) device.AttnShape {
	a := b.arch
	return device.AttnShape{T: t / max(1, sequences), H: a.H, G: a.G, K: a.K, Scale: float32(1 / math.Sqrt(float64(a.K))), Batch: sequences}
}

// project computes queries, keys and values from the normed states in scratch, normalizes the heads of q and k where the
// family does, and rotates them. Where the pass keeps it, what the heads' norms start from stays in scratch. It reports
// whether the pass stops before the rotation.
func (b *Block) project(t int, p *Pass) (stop bool, err error) {
	a, s, m := b.arch, &b.model.scratch, b.model
	q, k := s.q, s.k
	if p.keep && b.qNorm.w != nil {
		if err := s.fit(want{&s.back.q0, t, a.H * a.K}); err != nil {
			return false, err
		}
		q = s.back.q0
	}
	if p.keep && b.kNorm.w != nil {
		if err := s.fit(want{&s.back.k0, t, a.G * a.K}); err != nil {
			return false, err
		}
		k = s.back.k0
	}
	b.linear(q, s.n, arch.Q, t)
	b.linear(k, s.n, arch.K, t)
	b.linear(s.v, s.n, arch.V, t)
	if b.qNorm.w != nil {
		m.Dev.RMSNorm(s.q, q, b.qNorm.w, t*a.H, a.K, float32(a.K), m.Arch.Eps)
	}
	if b.kNorm.w != nil {
		m.Dev.RMSNorm(s.k, k, b.kNorm.w, t*a.G, a.K, float32(a.K), m.Arch.Eps)
	}
	if p.TapHeads != nil && p.TapHeads(s.view(1, s.q, t*a.H*a.K), s.view(2, s.k, t*a.G*a.K), s.view(3, s.v, t*a.G*a.K), t) {
		return true, nil
	}
	if m.Arch.Rope != nil {
		r := m.rotaryTable(a.K, t, p.Sequences)
		m.rotate(r, s.q, t, a.H, false)
		m.rotate(r, s.k, t, a.G, false)
	}
	return false, nil
}

// tapAttn shows what attention has left in scratch.
func (b *Block) tapAttn(p *Pass, shape device.AttnShape, masks []device.Mask) error {
	if p.TapAttn == nil {
		return nil
	}
	if shape.Sequences() > 1 {
		panic("nn: several sequences are looked at")
	}
	s, dev := &b.model.scratch, b.model.Dev
	st := b.attnState(shape, masks)
	if p.ColumnSums {
		if err := s.fit(want{&s.sums, shape.H, shape.T}); err != nil {
			return err
		}
		dev.AttnColumnSums(s.sums, s.q, s.k, s.lse, shape, masks)
		st.DevSums = s.sums
	}
	p.TapAttn(st)
	return nil
}

// attend computes the output of attention from queries, keys and values in scratch, as the pass asks for it.
func (b *Block) attend(p *Pass, shape device.AttnShape, masks []device.Mask) error {
	s := &b.model.scratch
	switch {
	case p.Attend != nil:
		return b.attendBy(p, shape)
	case p.Mix != nil:
		return b.mix(p.Mix, shape, masks)
	}
	b.model.Dev.Attention(s.o, s.lse, s.q, s.k, s.v, shape, masks)
	return nil
}

// attendBy lets the pass do the attention.
func (b *Block) attendBy(p *Pass, shape device.AttnShape) error {
	if p.ColumnSums || p.Mix != nil || p.keep || shape.Sequences() > 1 {
		panic("nn: column sums, a mix, a way back or several sequences of an attention that the pass does itself")
	}
	s := &b.model.scratch
	st := b.attnState(shape, nil)
	st.DevLSE, st.Out = nil, s.blank(4, s.o, shape.T*shape.H*shape.K)
	if err := p.Attend(st); err != nil {
		return err
	}
	if b.model.Dev.Host(s.o) == nil {
		b.model.Dev.Upload(s.o, 0, st.Out)
	}
	return nil
}
