package distill

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/num"
)

// sink is where the gradients of a step are summed.
type sink interface {
	zero()
	// layer returns where those of a layer are summed, nil where nothing of it is trained; layerDone follows when all windows of a
	// part have passed it.
	layer(l int) *nn.BlockGrads
	layerDone(l int) error
	head() *nn.HeadGrads
	// embed takes the gradient [T, D] by the embedded tokens of a window.
	embed(ids []int32, grad []float32)
	// grads returns the sums for each parameter.
	grads() []gradient
	// free gives the memory on the device back.
	free()
}

// gradient is the gradient by a parameter: on the host, or on a device that trains; nowhere for one that stays as it is.
type gradient struct {
	host []float32
	buf  device.Buf
}

// hosts returns gradients that lie on the host.
func hosts(list [][]float32) []gradient {
	out := make([]gradient, len(list))
	for i, g := range list {
		out[i].host = g
	}
	return out
}

// fullSink sums the gradients of all parameters.
//
// Memory: 4 bytes a parameter on the device, as much again on the host where it cannot address that and the device does not train, and
// 4*V*D bytes for the embedding, twice where the head is tied.
type fullSink struct {
	dev    device.Device
	params *Params
	layers []*nn.BlockGrads // of the layers that are run
	heads  *nn.HeadGrads    // nil where the objective does not look at logits

	embedding, positions []float32    // nil positions where there are none
	bufs                 []device.Buf // of each parameter, where the host cannot address them
	host                 [][]float32
	trains               bool // the device takes its own gradients
}

// newFullSink returns zeros for the parameters that m runs, and for the head where logits are looked at. reached says which of the
// parameters the objective depends on.
func newFullSink(m *nn.Model, p *Params, logits bool, reached func(*Param) bool) (*fullSink, error) {
	s := &fullSink{dev: m.Dev, params: p}
	for l := range m.Arch.Layers {
		g, err := m.NewBlockGrads(l)
		if err != nil {
			s.free()
			return nil, err
		}
		s.layers = append(s.layers, g)
	}
	_, s.trains = m.Dev.(device.Optimizer)
	var err error
	if logits {
		if s.heads, err = m.NewHeadGrads(); err != nil {
			s.free()
			return nil, err
		}
	}
	s.hosts(reached)
	return s, nil
}

// hosts finds or makes the sums of each parameter on the host.
func (s *fullSink) hosts(reached func(*Param) bool) {
	s.bufs, s.host = make([]device.Buf, len(s.params.List())), make([][]float32, len(s.params.List()))
	for i, q := range s.params.List() {
		if !reached(q) {
			continue
		}
		b := s.buffer(q)
		if b != nil {
			s.host[i] = s.dev.Host(b)
		}
		if s.host[i] == nil {
			s.bufs[i] = b
		}
		if s.host[i] == nil && (b == nil || !s.trains || q.Part == Embedding) {
			s.host[i] = make([]float32, q.Len())
		}
		switch q.Part {
		case Embedding:
			s.embedding = s.host[i]
		case Positions:
			s.positions = s.host[i]
		}
	}
}

// buffer returns where the device sums the gradients by a parameter; nil for the embedding, unless it is the head too, and for positions.
func (s *fullSink) buffer(q *Param) device.Buf {
	g := s.group(q)
	if q.Bias {
		return g.B
	}
	return g.W
}

func (s *fullSink) group(q *Param) nn.ParamGrad {
	switch q.Part {
	case Embedding:
		if s.params.Arch.Tied && s.heads != nil {
			return nn.ParamGrad{W: s.heads.W}
		}
		return nn.ParamGrad{}
	case Positions:
		return nn.ParamGrad{}
	case Head:
		return nn.ParamGrad{W: s.heads.W}
	case FinalNorm:
		return s.heads.Norm
	}
	return blockGrad(s.layers[q.Layer], q.Part, q.Role)
}

// blockGrad returns the sums of a part of a block.
func blockGrad(g *nn.BlockGrads, p Part, r arch.Role) nn.ParamGrad {
	switch p {
	case AttnNorm:
		return g.AttnNorm
	case FFNNorm:
		return g.FFNNorm
	case QNorm:
		return g.QNorm
	case KNorm:
		return g.KNorm
	}
	return g.Linears[r]
}

func (s *fullSink) zero() {
	for _, g := range s.layers {
		g.Zero()
	}
	if s.heads != nil {
		s.heads.Zero()
	}
	clear(s.embedding)
	clear(s.positions)
}

func (s *fullSink) layer(l int) *nn.BlockGrads { return s.layers[l] }

func (s *fullSink) layerDone(int) error { return nil }

func (s *fullSink) head() *nn.HeadGrads { return s.heads }

// embed adds to the rows of tokens and of positions, position after position.
func (s *fullSink) embed(ids []int32, grad []float32) {
	d := s.params.Arch.D
	for i, id := range ids {
		g := grad[i*d : (i+1)*d]
		num.Add(s.embedding[int(id)*d:][:d], g)
		if s.positions != nil {
			num.Add(s.positions[i*d:][:d], g)
		}
	}
}

// grads copies what the host cannot address and the device does not take. A tied head adds to the embedding.
func (s *fullSink) grads() []gradient {
	out := hosts(s.host)
	for i, b := range s.bufs {
		switch {
		case b == nil:
		case s.host[i] == nil:
			out[i].buf = b
		case s.params.List()[i].Part == Embedding:
			head := make([]float32, b.Len())
			s.dev.Download(head, b, 0)
			num.Add(s.host[i], head)
		default:
			s.dev.Download(s.host[i], b, 0)
		}
	}
	return out
}

func (s *fullSink) free() {
	for _, g := range s.layers {
		g.Free()
	}
	if s.heads != nil {
		s.heads.Free()
	}
	*s = fullSink{}
}
