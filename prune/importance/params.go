package importance

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// param is one parameter of a model.
type param struct {
	read  func(b *nn.Block) ([]float32, error) // its values, those of a layer from its block
	count func(f counts)                       // adds what its values count for to the scores
	grad  device.Buf                           // gradients by it; nil where there are none
	sums  moments
}

// params lists the parameters of a layer: projections by role, each with its bias, then norms. g may be nil.
func (c *coupled) params(l int, g *nn.BlockGrads) []*param {
	if g == nil {
		g = &nn.BlockGrads{}
	}
	a, d := &c.m.Arch.Layers[l], c.m.Arch.D
	var out []*param
	for _, r := range a.Roles() {
		out = append(out, &param{grad: g.Linears[r].W, count: func(f counts) { c.linear(l, r, f) },
			read: func(b *nn.Block) ([]float32, error) { return b.Weight(r) }})
		if a.Linears[r].Bias != "" {
			out = append(out, &param{grad: g.Linears[r].B, count: func(f counts) { c.bias(l, r, f) },
				read: func(b *nn.Block) ([]float32, error) { return b.Bias(r), nil }})
		}
	}
	out = append(out, c.normParams(l, a.AttnNorm, d, true, g.AttnNorm)...)
	out = append(out, c.normParams(l, a.FFNNorm, d, true, g.FFNNorm)...)
	out = append(out, c.normParams(l, a.QNorm, a.K, false, g.QNorm)...)
	return append(out, c.normParams(l, a.KNorm, a.K, false, g.KNorm)...)
}

// normParams lists gain and bias of a norm, none where it does not exist. Layer -1 is that of the final norm.
func (c *coupled) normParams(l int, n arch.Norm, width int, stream bool, g nn.ParamGrad) []*param {
	var out []*param
	for i, name := range []string{n.Weight, n.Bias} {
		if name == "" {
			continue
		}
		out = append(out, &param{grad: [...]device.Buf{g.W, g.B}[i], count: func(f counts) { c.gain(l, width, stream, f) },
			read: func(*nn.Block) ([]float32, error) { return c.vector(name, width) }})
	}
	return out
}

// countAll adds what the values of parameters count for, f of values and sums of gradients, in their order.
func countAll(params []*param, b *nn.Block, f func(w []float32, s *moments) counts) error {
	for _, p := range params {
		w, err := p.read(b)
		if err != nil {
			return err
		}
		p.count(f(w, &p.sums))
	}
	return nil
}

// moments are sums over windows of the gradients by some values, and of their squares, on the host.
type moments struct {
	sum, square []float32 // square nil where it is not needed
}

func newMoments(n int, squares bool) moments {
	m := moments{sum: make([]float32, n)}
	if squares {
		m.square = make([]float32, n)
	}
	return m
}

// add adds g to the sums and the square of root*g to those of squares.
func (m *moments) add(g []float32, root float32) {
	for i, v := range g {
		m.sum[i] += v
	}
	if m.square == nil {
		return
	}
	for i, v := range g {
		v *= root
		m.square[i] += float32(v * v)
	}
}

// collect adds the gradients in a buffer, in pieces.
func (m *moments) collect(dev device.Device, buf device.Buf, root float32) {
	const piece = 1 << 16
	host, n := dev.Host(buf), buf.Len()
	if host == nil {
		host = make([]float32, n)
		dev.Download(host, buf, 0)
	}
	dev.For((n+piece-1)/piece, func(i int) {
		lo, hi := i*piece, min(n, (i+1)*piece)
		part := moments{sum: m.sum[lo:hi]}
		if m.square != nil {
			part.square = m.square[lo:hi]
		}
		part.add(host[lo:hi], root)
	})
}
