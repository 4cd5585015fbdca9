package nn

import (
	"modelpress/internal/device"
)

// Gates multiply units of a block, as pruning masks do that are learnt. Nil slices count as ones. Backward adds the gradients
// by them to the Grad slices, which are as long, where these are not nil.
type Gates struct {
	Hidden []float32 // [D], what attention and FFN add to the residual stream, biases included
	Heads  []float32 // [G], the output of attention, for all query heads that read a KV head
	FFN    []float32 // [F], the input of the down projection

	GradHidden, GradHeads, GradFFN []float64
}

// none stands for no gates.
var none = &Gates{}

func gatesOf(g *Gates) *Gates {
	if g == nil {
		return none
	}
	return g
}

// KeptChannels says which channels of the residual stream a mask leaves. The norms over D take their means over Width
// channels, which is as if the others, which have to be zero, were not there. Keep [D] multiplies the gain and bias of
// LayerNorm, which would otherwise make something of zeros; it may be nil.
type KeptChannels struct {
	Width float32
	Keep  []float32
}

// over is the number of channels that norms over D take means of.
func (m *Model) over() float32 {
	if m.Kept == nil {
		return float32(m.Arch.D)
	}
	return m.Kept.Width
}

// keepGains multiplies gains and biases of LayerNorms over D by what the mask leaves of each channel.
func (m *Model) keepGains(norms ...norm) {
	if m.Kept == nil || m.Kept.Keep == nil || !m.Arch.LayerNorm {
		return
	}
	for _, n := range norms {
		for _, b := range []device.Buf{n.w, n.b} {
			if b != nil {
				m.Dev.ScaleColumns(b, b, m.Kept.Keep, 1, m.Arch.D)
			}
		}
	}
}

// perColumn repeats the gates of KV heads for the columns [H*K] of attention's output.
func perColumn(heads []float32, s device.AttnShape) []float32 {
	out := make([]float32, s.H*s.K)
	for c := range out {
		out[c] = heads[c/s.K/(s.H/s.G)]
	}
	return out
}

// gateHeads returns attention's output under the gates, in a buffer of its own where there are any.
func (b *Block) gateHeads(g *Gates, t int) (device.Buf, error) {
	s, shape := &b.model.scratch, b.shape(t, 1)
	if g.Heads == nil {
		return s.o, nil
	}
	if err := s.fit(want{&s.gated, t, shape.H * shape.K}); err != nil {
		return nil, err
	}
	b.model.Dev.ScaleColumns(s.gated, s.o, perColumn(g.Heads, shape), t, shape.H*shape.K)
	return s.gated, nil
}

// headsBack takes the gradient dout by the gated output of attention back through the gates, in place.
func (b *Block) headsBack(g *Gates, dout device.Buf, t int) {
	s, shape := &b.model.scratch, b.shape(t, 1)
	n := shape.H * shape.K
	if g.GradHeads != nil {
		columns := make([]float64, n)
		b.model.Dev.ColumnDots(columns, dout, s.o, t, n)
		for c, v := range columns {
			g.GradHeads[c/shape.K/(shape.H/shape.G)] += v
		}
	}
	if g.Heads != nil {
		b.model.Dev.ScaleColumns(dout, dout, perColumn(g.Heads, shape), t, n)
	}
}

// hiddenBack returns the gradient by what a projection adds to the stream before its gates, from the gradient dy [T, D] after
// them: dy itself where there are no gates. in is the projection's input.
func (b *Block) hiddenBack(g *Gates, dy, in device.Buf, r role, t int) (device.Buf, error) {
	s, m, d := &b.model.scratch, b.model, b.model.Arch.D
	if g.Hidden == nil && g.GradHidden == nil {
		return dy, nil
	}
	if err := s.fit(want{&s.back.add, t, d}); err != nil {
		return nil, err
	}
	if g.GradHidden != nil {
		b.linear(s.back.add, in, r, t)
		m.Dev.ColumnDots(g.GradHidden, dy, s.back.add, t, d)
	}
	if g.Hidden == nil {
		return dy, nil
	}
	m.Dev.ScaleColumns(s.back.add, dy, g.Hidden, t, d)
	return s.back.add, nil
}
