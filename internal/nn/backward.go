package nn

import (
	"fmt"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// BackPass says what a backward pass does besides computing. The zero value and nil mean nothing.
type BackPass struct {
	Masks []device.Mask // as in Pass
	Mix   *Mix          // as in Pass
	// Tap is called once the gradient by the output of attention is known; an error ends the pass. A block without
	// attention does not call it.
	Tap func(g *AttnGradState) error
	// Stop ends the pass after the Tap: the gradient by the input of the block is unspecified then.
	Stop bool
}

// AttnGradState is what attention has computed and the gradient of the loss by its output: what
// [device.Device.AttnStatistics] needs. It is valid during the call of a Tap only and must not be changed.
type AttnGradState struct {
	*AttnState
	DOut    []float32 // [T, H*K]
	DevDOut device.Buf
	// DAlpha is the gradient by the gates of a Mix, [G]; nil without one.
	DAlpha []float64
}

// Backward takes the gradient of a loss back through the block: from the input x [T, D] of a window and the gradient dy
// [T, D] by the block's output, which is replaced by the gradient by x. The weights are frozen. The block is run anew up to
// the activations of its FFN, so that nothing but x has to be kept of the forward pass.
//
// Beside the weights it holds 4*(T*(3D + 4HK + 4GK + H) + 3*min(T, 1024)*F) bytes on the device, of which
// 4*(T*(2D + 2HK + 2GK + H) + 2*min(T, 1024)*F) are those of Forward, T*(HK + GK) more floats where the heads of q and k have
// norms and T*(4HK + 2GK + H) for a Mix, and 4*T*D bytes on the host. It belongs to the model and is reused, as with Forward.
func (b *Block) Backward(x, dy []float32, t int, p *BackPass) error {
	if p == nil {
		p = &BackPass{}
	}
	d := b.model.Arch.D
	if t <= 0 || len(x) < t*d || len(dy) < t*d {
		panic(fmt.Sprintf("nn: backward pass of %d and %d values for %d positions of width %d", len(x), len(dy), t, d))
	}
	s := &b.model.scratch
	if len(s.back.states) < t*d {
		s.back.states = make([]float32, t*d)
	}
	mid := s.back.states[:t*d]
	copy(mid, x)
	_, err := b.part(mid, t, &Pass{Masks: p.Masks, Mix: p.Mix, keep: true, HasStop: !b.arch.HasFFN(), StopAfter: SiteO}, b.attention)
	if err != nil {
		return err
	}
	if err = s.fit(want{&s.back.dy, t, d}); err == nil {
		err = b.ffnBack(mid, dy[:t*d], t)
	}
	if err == nil {
		err = b.attentionBack(x, dy[:t*d], t, p)
	}
	if err != nil {
		return fmt.Errorf("nn: layer %d: %w", b.index, err)
	}
	return nil
}

// ffnBack takes dy back through the feed-forward sub-layer, whose input is x, some rows at a time.
func (b *Block) ffnBack(x, dy []float32, t int) error {
	a, s, d := b.arch, &b.model.scratch, b.model.Arch.D
	if !a.HasFFN() {
		return nil
	}
	rows := min(t, ffnRows)
	if err := s.fit(want{&s.gate, rows, a.F}, want{&s.up, rows, a.F}, want{&s.back.act, rows, a.F}); err != nil {
		return err
	}
	for lo := 0; lo < t; lo += rows {
		hi := min(t, lo+rows)
		b.ffnPartBack(x[lo*d:hi*d], dy[lo*d:hi*d], hi-lo)
	}
	return nil
}

func (b *Block) ffnPartBack(x, dy []float32, t int) {
	a, s, m := b.arch, &b.model.scratch, b.model
	g := &s.back
	m.Dev.Upload(s.x, 0, x)
	m.Dev.Upload(g.dy, 0, dy)
	b.normalize(s.n, s.x, b.ffnNorm, t)
	b.linear(s.up, s.n, arch.Up, t)
	gated := b.linears[arch.Gate].w != nil
	if gated {
		b.linear(s.gate, s.n, arch.Gate, t)
	}
	b.linearBack(g.act, g.dy, arch.Down, t, 0)
	if gated {
		m.Dev.SiLUMulBack(s.gate, s.up, g.act, s.gate, s.up, t*a.F)
		b.linearBack(s.n, s.gate, arch.Gate, t, 0)
		b.linearBack(s.n, s.up, arch.Up, t, 1)
	} else {
		m.Dev.GELUBack(s.up, g.act, s.up, t*a.F, m.Arch.Act == arch.GELUTanh)
		b.linearBack(s.n, s.up, arch.Up, t, 0)
	}
	b.addBack(dy, b.ffnNorm, t)
}

// linearBack computes dx = dy·W + beta*dx of a projection over t rows.
func (b *Block) linearBack(dx, dy device.Buf, r arch.Role, t int, beta float32) {
	l := b.linears[r]
	b.model.Dev.MatMulNN(dx, dy, l.w, t, l.out, l.in, beta)
}

// addBack takes the gradient in scratch.n back through the norm of the states in scratch, adds it to the gradient in
// scratch, and copies that to dy.
func (b *Block) addBack(dy []float32, n norm, t int) {
	s, m := &b.model.scratch, b.model
	m.normBack(s.n, s.x, n, t)
	m.Dev.Add(s.back.dy, s.n, t*m.Arch.D)
	m.Dev.Download(dy, s.back.dy, 0)
}

// attentionBack takes dy back through the attention sub-layer, whose input is x and whose intermediates are in scratch.
func (b *Block) attentionBack(x, dy []float32, t int, p *BackPass) error {
	a, s, m := b.arch, &b.model.scratch, b.model
	if !a.HasAttention() {
		return nil
	}
	g, hk, gk := &s.back, a.H*a.K, a.G*a.K
	if err := s.fit(want{&g.dout, t, hk}, want{&g.dq, t, hk}, want{&g.dk, t, gk}, want{&g.dv, t, gk}); err != nil {
		return err
	}
	m.Dev.Upload(g.dy, 0, dy)
	b.linearBack(g.dout, g.dy, arch.O, t, 0)
	shape, masks := b.shape(t), b.masksOf(&Pass{Masks: p.Masks})
	if err := b.tapBack(p, shape, masks); err != nil || p.Stop {
		return err
	}
	if p.Mix == nil {
		m.Dev.AttentionBack(g.dq, g.dk, g.dv, g.dout, s.q, s.k, s.v, s.o, s.lse, shape, masks)
	} else if err := b.mixBack(p.Mix, shape, masks); err != nil {
		return err
	}
	b.positionBack(t)
	b.linearBack(s.n, g.dq, arch.Q, t, 0)
	b.linearBack(s.n, g.dk, arch.K, t, 1)
	b.linearBack(s.n, g.dv, arch.V, t, 1)
	m.Dev.Upload(s.x, 0, x[:t*m.Arch.D])
	b.addBack(dy, b.attnNorm, t)
	return nil
}

func (b *Block) tapBack(p *BackPass, shape device.AttnShape, masks []device.Mask) error {
	if p.Tap == nil {
		return nil
	}
	s := &b.model.scratch
	st := &AttnGradState{AttnState: b.attnState(shape, masks), DOut: s.view(7, s.back.dout, shape.T*shape.H*shape.K), DevDOut: s.back.dout}
	if p.Mix != nil {
		st.DAlpha = make([]float64, shape.G)
		st.Dev.MixSlopes(st.DAlpha, s.back.dout, s.full, s.other, shape)
	}
	return p.Tap(st)
}

// mixBack takes the gradient by the blend of two attentions back through both.
func (b *Block) mixBack(x *Mix, shape device.AttnShape, masks []device.Mask) error {
	s, dev := &b.model.scratch, b.model.Dev
	g, hk, gk := &s.back, shape.H*shape.K, shape.G*shape.K
	if err := s.fit(want{&g.part, shape.T, hk}, want{&g.pq, shape.T, hk}, want{&g.pk, shape.T, gk}, want{&g.pv, shape.T, gk}); err != nil {
		return err
	}
	rest := make([]float32, len(x.Alpha))
	for i, a := range x.Alpha {
		rest[i] = 1 - a
	}
	dev.MixHeads(g.part, g.dout, nil, x.Alpha, shape)
	dev.AttentionBack(g.dq, g.dk, g.dv, g.part, s.q, s.k, s.v, s.full, s.lse, shape, masks)
	dev.MixHeads(g.part, g.dout, nil, rest, shape)
	dev.AttentionBack(g.pq, g.pk, g.pv, g.part, s.q, s.k, s.v, s.other, s.lse2, shape, x.Masks)
	dev.Add(g.dq, g.pq, shape.T*hk)
	dev.Add(g.dk, g.pk, shape.T*gk)
	dev.Add(g.dv, g.pv, shape.T*gk)
	return nil
}

// positionBack takes the gradients by queries and keys back through rotation and heads' norms.
func (b *Block) positionBack(t int) {
	a, g, m := b.arch, &b.model.scratch.back, b.model
	if m.Arch.Rope != nil {
		cos, sin := m.rotaryBack(a.K, t)
		m.Dev.RoPE(g.dq, t, a.H, a.K, cos, sin)
		m.Dev.RoPE(g.dk, t, a.G, a.K, cos, sin)
	}
	if b.qNorm.w != nil {
		m.Dev.RMSNormBack(g.dq, g.dq, g.q0, b.qNorm.w, t*a.H, a.K, float32(a.K), m.Arch.Eps)
	}
	if b.kNorm.w != nil {
		m.Dev.RMSNormBack(g.dk, g.dk, g.k0, b.kNorm.w, t*a.G, a.K, float32(a.K), m.Arch.Eps)
	}
}
