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
	Gates *Gates        // as in Pass; the gradients by them are added to its Grad slices
	// Grads, where not nil, has the gradients by the parameters added to it.
	Grads *BlockGrads
	// Tap is called once the gradient by the output of attention is known; an error ends the pass. A block without
	// attention does not call it.
	Tap func(g *AttnGradState) error
	// Heads may add to the gradients by queries [T, H*K] and keys [T, G*K], after the rotary embedding, and by values [T, G*K]: those
	// of a loss of its own on what attention reads. It may be nil; an error ends the pass. A block without attention does not
	// call it.
	Heads func(a *AttnState, dq, dk, dv []float32) error
	// Stop ends the pass after the Tap: the gradient by the input of the block is unspecified then.
	Stop bool

	acts      *activations // of the forward pass; nil to compute them again
	sequences int          // as in Pass
}

// Backward takes the gradient of a loss back through the block: from the input x [T, D] of a window and the gradient dy
// [T, D] by the block's output, which is replaced by the gradient by x. The block is run anew up to the activations of its FFN, so that
// nothing but x has to be kept of the forward pass.
//
// Beside the weights and these two it holds 4*(T*(2D + 4HK + 4GK + H) + 3*min(T, 1024)*F) bytes on the device, of which
// 4*(T*(D + 2HK + 2GK + H) + 2*min(T, 1024)*F) are those of Forward, T*(HK + GK) more floats where the heads of q and k have
// norms, T*(4HK + 2GK + H) for a Mix, T*(D + HK) for gates, T*D + min(T, 1024)*F for gates or gradients by weights. It belongs to the
// model and is reused, as with Forward. Callers on the host are served as with Forward.
func (b *Block) Backward(x, dy []float32, t int, p *BackPass) error {
	m, n := b.model, t*b.model.Arch.D
	if t <= 0 || len(x) < n || len(dy) < n {
		panic(fmt.Sprintf("nn: backward pass of %d and %d values for %d positions of width %d", len(x), len(dy), t, m.Arch.D))
	}
	back := func(x device.Buf) error {
		return m.hosted(dy[:n], &m.scratch.back.dy, func(dy device.Buf) error { return b.BackwardBuf(x, dy, t, p) })
	}
	if dev, ok := m.Dev.(device.Sharer); ok {
		return back(dev.Share(x[:n]))
	}
	if err := m.scratch.fit(want{&m.scratch.x, t, m.Arch.D}); err != nil {
		return fmt.Errorf("nn: states of a caller: %w", err)
	}
	m.Dev.Upload(m.scratch.x, 0, x[:n])
	return back(m.scratch.x)
}

// BackwardBuf is Backward of states and gradients on the device.
func (b *Block) BackwardBuf(x, dy device.Buf, t int, p *BackPass) error {
	if p == nil {
		p = &BackPass{}
	}
	if n := t * b.model.Arch.D; t <= 0 || x.Len() < n || dy.Len() < n {
		panic(fmt.Sprintf("nn: backward pass of %d and %d values for %d positions of width %d", x.Len(), dy.Len(), t, b.model.Arch.D))
	}
	s := &b.model.scratch
	s.swapAttn(p.acts)
	defer s.swapAttn(p.acts)
	mid, err := b.again(x, t, p)
	if err != nil {
		return err
	}
	if err = s.fit(want{&s.n, t, b.model.Arch.D}); err == nil && (p.Grads != nil || p.Gates != nil) {
		err = s.fit(want{&s.back.norm, t, b.model.Arch.D})
	}
	if err == nil {
		err = b.ffnBack(mid, dy, t, p)
	}
	if err == nil {
		err = b.attentionBack(x, dy, t, p)
	}
	if err != nil {
		return fmt.Errorf("nn: layer %d: %w", b.index, err)
	}
	return nil
}

// again runs attention over x [T, D] unless it is kept in scratch, and returns the input of the feed-forward sub-layer.
func (b *Block) again(x device.Buf, t int, p *BackPass) (device.Buf, error) {
	if p.acts != nil {
		return p.acts.mid, nil
	}
	s, d := &b.model.scratch, b.model.Arch.D
	if err := s.fit(want{&s.back.mid, t, d}); err != nil {
		return nil, fmt.Errorf("nn: layer %d: %w", b.index, err)
	}
	b.model.Dev.Copy(s.back.mid, 0, x, 0, t*d)
	pass := &Pass{Masks: p.Masks, Mix: p.Mix, Gates: p.Gates, keep: true, Sequences: p.sequences, HasStop: !b.arch.HasFFN(), StopAfter: SiteO}
	_, err := b.part(s.back.mid, t, pass, b.attention)
	return s.back.mid, err
}

// ffnBack takes dy back through the feed-forward sub-layer, whose input is x, some rows at a time: always the same number, since the
// gradients by weights are summed in this order.
func (b *Block) ffnBack(x, dy device.Buf, t int, p *BackPass) error {
	a, s, d, dev := b.arch, &b.model.scratch, b.model.Arch.D, b.model.Dev
	if !a.HasFFN() {
		return nil
	}
	rows := min(t, ffnRows)
	err := s.fit(want{&s.back.act, rows, a.F})
	if err == nil && (p.Grads != nil || p.Gates != nil) {
		err = s.fit(want{&s.back.hid, rows, a.F})
	}
	for lo := 0; lo < t && err == nil; lo += rows {
		n := min(t-lo, rows)
		s.swapFFN(p.acts, lo/rows)
		if err = s.fit(want{&s.gate, n, a.F}, want{&s.up, n, a.F}); err == nil {
			err = b.ffnPartBack(dev.Slice(x, lo*d, n*d), dev.Slice(dy, lo*d, n*d), n, p)
		}
		s.swapFFN(p.acts, lo/rows)
	}
	return err
}

func (b *Block) ffnPartBack(x, dy device.Buf, t int, p *BackPass) error {
	a, s, m := b.arch, &b.model.scratch, b.model
	g := &s.back
	b.normalize(s.n, x, b.ffnNorm, t)
	gated := b.linears[arch.Gate].w != nil
	if p.acts == nil {
		b.linear(s.up, s.n, arch.Up, t)
	}
	if p.acts == nil && gated {
		b.linear(s.gate, s.n, arch.Gate, t)
	}
	if err := b.downBack(dy, t, gated, p); err != nil {
		return err
	}
	if gated {
		m.Dev.SiLUMulBack(s.gate, s.up, g.act, s.gate, s.up, t*a.F)
		b.linearGrad(p.Grads, arch.Gate, s.gate, s.n, t)
		b.linearGrad(p.Grads, arch.Up, s.up, s.n, t)
		b.linearBack(s.n, s.gate, arch.Gate, t, 0)
		b.linearBack(s.n, s.up, arch.Up, t, 1)
	} else {
		m.Dev.GELUBack(s.up, g.act, s.up, t*a.F, m.Arch.Act == arch.GELUTanh)
		b.linearGrad(p.Grads, arch.Up, s.up, s.n, t)
		b.linearBack(s.n, s.up, arch.Up, t, 0)
	}
	b.addBack(dy, x, b.ffnNorm, t, p.Grads.norm(ffnNorm))
	return nil
}

// downBack takes the gradient dy back through the down projection and its gates, to that by the FFN's activations,
// whose arguments are in scratch.
func (b *Block) downBack(dy device.Buf, t int, gated bool, p *BackPass) error {
	a, s, m, gates := b.arch, &b.model.scratch, b.model, gatesOf(p.Gates)
	g := &s.back
	if p.Grads != nil || p.Gates != nil {
		if gated {
			m.Dev.SiLUMul(g.hid, s.gate, s.up, t*a.F)
		} else {
			m.Dev.GELU(g.hid, s.up, t*a.F, m.Arch.Act == arch.GELUTanh)
		}
	}
	in := g.hid
	if gates.FFN != nil {
		in = g.act // not needed until the product below
		m.Dev.ScaleColumns(in, g.hid, gates.FFN, t, a.F)
	}
	dy, err := b.hiddenBack(gates, dy, in, arch.Down, t)
	if err != nil {
		return err
	}
	b.linearGrad(p.Grads, arch.Down, dy, in, t)
	b.linearBack(g.act, dy, arch.Down, t, 0)
	if gates.GradFFN != nil {
		m.Dev.ColumnDots(gates.GradFFN, g.act, g.hid, t, a.F)
	}
	if gates.FFN != nil {
		m.Dev.ScaleColumns(g.act, g.act, gates.FFN, t, a.F)
	}
	return nil
}

// linearBack computes dx = dy·W + beta*dx of a projection over t rows.
func (b *Block) linearBack(dx, dy device.Buf, r arch.Role, t int, beta float32) {
	l := b.linears[r]
	b.model.Dev.MatMulNN(dx, dy, l.w, t, l.out, l.in, beta)
}

// addBack takes the gradient in scratch.n back through the norm of the states x and adds it to the gradient dy. The gradients by the
// norm's parameters are added to g.
func (b *Block) addBack(dy, x device.Buf, n norm, t int, g ParamGrad) {
	s, m := &b.model.scratch, b.model
	m.normGrad(g, s.n, x, s.back.norm, t)
	m.normBack(s.n, x, n, t)
	m.Dev.Add(dy, s.n, t*m.Arch.D)
}

// attentionBack takes dy back through the attention sub-layer, whose input is x and whose intermediates are in scratch.
func (b *Block) attentionBack(x, dy device.Buf, t int, p *BackPass) error {
	a, s, m := b.arch, &b.model.scratch, b.model
	if !a.HasAttention() {
		return nil
	}
	g, hk, gk := &s.back, a.H*a.K, a.G*a.K
	if err := s.fit(want{&g.dout, t, hk}, want{&g.dq, t, hk}, want{&g.dk, t, gk}, want{&g.dv, t, gk}); err != nil {
		return err
	}
	if err := b.outputBack(dy, t, p); err != nil {
		return err
	}
	shape, masks := b.shape(t, p.sequences), b.masksOf(&Pass{Masks: p.Masks})
	if err := b.tapBack(p, shape, masks); err != nil || p.Stop {
		return err
	}
	if p.Mix == nil {
		m.Dev.AttentionBack(g.dq, g.dk, g.dv, g.dout, s.q, s.k, s.v, s.o, s.lse, shape, masks)
	} else if err := b.mixBack(p.Mix, shape, masks); err != nil {
		return err
	}
	if err := b.addHeads(p, shape, masks); err != nil {
		return err
	}
	b.positionBack(t, p)
	if p.Grads != nil {
		b.normalize(g.norm, x, b.attnNorm, t)
		b.linearGrad(p.Grads, arch.Q, g.dq, g.norm, t)
		b.linearGrad(p.Grads, arch.K, g.dk, g.norm, t)
		b.linearGrad(p.Grads, arch.V, g.dv, g.norm, t)
	}
	b.linearBack(s.n, g.dq, arch.Q, t, 0)
	b.linearBack(s.n, g.dk, arch.K, t, 1)
	b.linearBack(s.n, g.dv, arch.V, t, 1)
	b.addBack(dy, x, b.attnNorm, t, p.Grads.norm(attnNorm))
	return nil
}

// outputBack takes the gradient dy back through the output projection and its gates, to that by attention's output.
func (b *Block) outputBack(dy device.Buf, t int, p *BackPass) error {
	s, gates := &b.model.scratch, gatesOf(p.Gates)
	in := s.o
	if gates.Heads != nil {
		in = s.gated
	}
	dy, err := b.hiddenBack(gates, dy, in, arch.O, t)
	if err != nil {
		return err
	}
	b.linearGrad(p.Grads, arch.O, dy, in, t)
	b.linearBack(s.back.dout, dy, arch.O, t, 0)
	b.headsBack(gates, s.back.dout, t)
	return nil
}

// addHeads lets the pass add to the gradients by queries, keys and values.
func (b *Block) addHeads(p *BackPass, shape device.AttnShape, masks []device.Mask) error {
	if p.Heads == nil {
		return nil
	}
	dev, g := b.model.Dev, &b.model.scratch.back
	bufs, host := [3]device.Buf{g.dq, g.dk, g.dv}, [3][]float32{}
	for i, n := range []int{shape.H, shape.G, shape.G} {
		if h := dev.Host(bufs[i]); h != nil {
			host[i] = h[:shape.T*n*shape.K]
			continue
		}
		host[i] = make([]float32, shape.T*n*shape.K)
		dev.Download(host[i], bufs[i], 0)
	}
	if err := p.Heads(b.attnState(shape, masks), host[0], host[1], host[2]); err != nil {
		return err
	}
	for i, buf := range bufs {
		if dev.Host(buf) == nil {
			dev.Upload(buf, 0, host[i])
		}
	}
	return nil
}

func (b *Block) tapBack(p *BackPass, shape device.AttnShape, masks []device.Mask) error {
	if p.Tap == nil {
		return nil
	}
	s := &b.model.scratch
	st := &AttnGradState{AttnState: b.attnState(shape, masks), DevDOut: s.back.dout}
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
func (b *Block) positionBack(t int, p *BackPass) {
	a, g, m := b.arch, &b.model.scratch.back, b.model
	if m.Arch.Rope != nil {
		r := m.rotaryTable(a.K, t, p.sequences)
		m.rotate(r, g.dq, t, a.H, true)
		m.rotate(r, g.dk, t, a.G, true)
	}
	if b.qNorm.w != nil {
		b.headNormBack(p.Grads.norm(qNorm), g.dq, g.q0, b.qNorm, t*a.H)
	}
	if b.kNorm.w != nil {
		b.headNormBack(p.Grads.norm(kNorm), g.dk, g.k0, b.kNorm, t*a.G)
	}
}

// headNormBack takes the gradient dy back through the norm of heads over rows of width K, whose input is x, in place.
func (b *Block) headNormBack(p ParamGrad, dy, x device.Buf, n norm, rows int) {
	dev, k := b.model.Dev, b.arch.K
	if p.W != nil {
		dev.RMSNormGrad(p.W, dy, x, rows, k, float32(k), b.model.Arch.Eps)
	}
	dev.RMSNormBack(dy, dy, x, n.w, rows, k, float32(k), b.model.Arch.Eps)
}
