package nn

import (
	"fmt"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

type role = arch.Role

// ParamGrad is where gradients by a weight, or the gain of a norm, and by its bias are summed, in the shape of these. Either is nil
// where the model has none or it is frozen.
type ParamGrad struct{ W, B device.Buf }

func (p ParamGrad) bufs() []device.Buf { return []device.Buf{p.W, p.B} }

// BlockGrads are sums of the gradients of losses by the parameters of a block. Weights are logical, [Out, In].
type BlockGrads struct {
	Linears                         [arch.NumRoles]ParamGrad
	AttnNorm, FFNNorm, QNorm, KNorm ParamGrad

	dev device.Device
}

// NewBlockGrads returns zeros for every parameter of layer l: 4 bytes each on the device.
func (m *Model) NewBlockGrads(l int) (*BlockGrads, error) {
	a, d := &m.Arch.Layers[l], m.Arch.D
	g := &BlockGrads{dev: m.Dev}
	var err error
	for r, lin := range a.Linears {
		if lin.Present() {
			err = first(err, m.paramGrad(&g.Linears[r], lin.Out*lin.In, lin.Bias, lin.Out))
		}
	}
	for _, n := range []struct {
		dst   *ParamGrad
		norm  arch.Norm
		width int
	}{{&g.AttnNorm, a.AttnNorm, d}, {&g.FFNNorm, a.FFNNorm, d}, {&g.QNorm, a.QNorm, a.K}, {&g.KNorm, a.KNorm, a.K}} {
		if n.norm.Present() {
			err = first(err, m.paramGrad(n.dst, n.width, n.norm.Bias, n.width))
		}
	}
	if err != nil {
		g.Free()
		return nil, fmt.Errorf("nn: gradients of layer %d: %w", l, err)
	}
	return g, nil
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// paramGrad makes room for the gradients by a weight of n values and a bias of some, where it has a name.
func (m *Model) paramGrad(p *ParamGrad, n int, bias string, width int) (err error) {
	if p.W, err = m.Dev.Alloc(device.F32, n); err == nil && bias != "" {
		p.B, err = m.Dev.Alloc(device.F32, width)
	}
	return err
}

// all lists the sums in a fixed order: by role, then the norms.
func (g *BlockGrads) all() []device.Buf {
	var out []device.Buf
	for _, p := range g.Linears {
		out = append(out, p.bufs()...)
	}
	for _, p := range []ParamGrad{g.AttnNorm, g.FFNNorm, g.QNorm, g.KNorm} {
		out = append(out, p.bufs()...)
	}
	return out
}

// The norms of a block, for BlockGrads.norm.
const (
	attnNorm = iota
	ffnNorm
	qNorm
	kNorm
)

// norm returns where the gradients by one of the norms are summed; nowhere where g is nil.
func (g *BlockGrads) norm(which int) ParamGrad {
	if g == nil {
		return ParamGrad{}
	}
	return [...]ParamGrad{g.AttnNorm, g.FFNNorm, g.QNorm, g.KNorm}[which]
}

// Zero sets all sums to zero.
func (g *BlockGrads) Zero() { zero(g.dev, g.all()) }

// Free gives the memory back; the sums must not be used after it.
func (g *BlockGrads) Free() { release(g.all()); *g = BlockGrads{} }

// HeadGrads are sums of the gradients by the final norm and by the output projection [V, D].
type HeadGrads struct {
	Norm ParamGrad
	W    device.Buf

	dev device.Device
}

// NewHeadGrads returns zeros for the final norm and the output projection: 4 bytes a parameter on the device.
func (m *Model) NewHeadGrads() (*HeadGrads, error) {
	g := &HeadGrads{dev: m.Dev}
	err := m.paramGrad(&g.Norm, m.Arch.D, m.Arch.FinalNorm.Bias, m.Arch.D)
	if err == nil {
		g.W, err = m.Dev.Alloc(device.F32, m.Arch.V*m.Arch.D)
	}
	if err != nil {
		g.Free()
		return nil, fmt.Errorf("nn: gradients of the output head: %w", err)
	}
	return g, nil
}

// Zero sets all sums to zero.
func (g *HeadGrads) Zero() { zero(g.dev, append(g.Norm.bufs(), g.W)) }

// Free gives the memory back; the sums must not be used after it.
func (g *HeadGrads) Free() { release(append(g.Norm.bufs(), g.W)); *g = HeadGrads{} }

func zero(dev device.Device, bufs []device.Buf) {
	for _, b := range bufs {
		if b != nil {
			dev.Zero(b, 0, b.Len())
		}
	}
}

func release(bufs []device.Buf) {
	for _, b := range bufs {
		if b != nil {
			b.Free()
		}
	}
}

// linearGrad adds the gradients by a projection's weight and bias, from those by its output dy [T, Out] and its input x [T, In].
func (b *Block) linearGrad(g *BlockGrads, r role, dy, x device.Buf, t int) {
	if g == nil {
		return
	}
	l, p := b.linears[r], g.Linears[r]
	if p.W != nil {
		b.model.Dev.MatMulTN(p.W, dy, x, t, l.out, l.in, 1)
	}
	if p.B != nil {
		b.model.addColumns(p.B, dy, t, l.out)
	}
}

// addColumns adds the sums of the columns of x [rows, n] to dst [n].
func (m *Model) addColumns(dst, x device.Buf, rows, n int) {
	sums, now := make([]float64, n), make([]float32, n)
	m.Dev.Download(now, dst, 0)
	for j, v := range now {
		sums[j] = float64(v)
	}
	m.Dev.ColumnDots(sums, x, nil, rows, n)
	for j, v := range sums {
		now[j] = float32(v)
	}
	m.Dev.Upload(dst, 0, now)
}

// normGrad adds the gradients by gain and bias of a norm over D, from those by its output dy and its input x, [T, D]. It leaves
// dy as it is and may use tmp [T, D].
func (m *Model) normGrad(p ParamGrad, dy, x, tmp device.Buf, t int) {
	switch d := m.Arch.D; {
	case p.W == nil:
	case !m.Arch.LayerNorm:
		m.Dev.RMSNormGrad(p.W, dy, x, t, d, m.over(), m.Arch.Eps)
	case m.Kept != nil && m.Kept.Keep != nil:
		m.Dev.ScaleColumns(tmp, dy, m.Kept.Keep, t, d)
		m.Dev.LayerNormGrad(p.W, p.B, tmp, x, t, d, m.over(), m.Arch.Eps)
	default:
		m.Dev.LayerNormGrad(p.W, p.B, dy, x, t, d, m.over(), m.Arch.Eps)
	}
}
