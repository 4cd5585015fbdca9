package distill

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// loraSink sums the gradients of adapters: those by the weights that they stand for are summed over the windows of a part, a layer at a
// time, and then projected.
//
// Memory: 4 bytes for each value of the adapters, and on the device 4 for each weight of the projections with adapters of one layer
// of each shape.
type loraSink struct {
	model  *nn.Model
	lora   *LoRA
	blocks map[arch.Layer]*nn.BlockGrads // by shape alone
	list   [][]float32                   // of each parameter
	at     map[*Param]int
	host   []float32
}

func newLoRASink(m *nn.Model, l *LoRA, reached func(*Param) bool) (*loraSink, error) {
	s := &loraSink{model: m, lora: l, blocks: map[arch.Layer]*nn.BlockGrads{}, at: map[*Param]int{}}
	for i, q := range l.List() {
		s.at[q] = i
		s.list = append(s.list, nil)
		if reached(q) {
			s.list[i] = make([]float32, q.Len())
		}
	}
	for n := range m.Arch.Layers {
		if k := shapeOf(&m.Arch.Layers[n]); s.adapted(n) && s.blocks[k] == nil {
			g, err := m.NewBlockGrads(n)
			if err != nil {
				s.free()
				return nil, err
			}
			s.strip(g, n)
			s.blocks[k] = g
		}
	}
	return s, nil
}

// shapeOf is what layers have in common whose gradients fit the same sums.
func shapeOf(a *arch.Layer) arch.Layer { return arch.Layer{H: a.H, G: a.G, K: a.K, F: a.F} }

func (s *loraSink) adapted(l int) bool {
	for _, r := range arch.Roles() {
		if a, _ := s.lora.Factors(l, r); a != nil {
			return true
		}
	}
	return false
}

// strip leaves the sums for weights with adapters alone.
func (s *loraSink) strip(g *nn.BlockGrads, l int) {
	drop := func(b *device.Buf) {
		if *b != nil {
			(*b).Free()
			*b = nil
		}
	}
	for r := range g.Linears {
		if a, _ := s.lora.Factors(l, arch.Role(r)); a == nil {
			drop(&g.Linears[r].W)
		}
		drop(&g.Linears[r].B)
	}
	for _, n := range []*nn.ParamGrad{&g.AttnNorm, &g.FFNNorm, &g.QNorm, &g.KNorm} {
		drop(&n.W)
		drop(&n.B)
	}
}

func (s *loraSink) zero() {
	for _, g := range s.list {
		clear(g)
	}
}

func (s *loraSink) layer(l int) *nn.BlockGrads {
	if !s.adapted(l) {
		return nil
	}
	g := s.blocks[shapeOf(&s.model.Arch.Layers[l])]
	g.Zero()
	return g
}

func (s *loraSink) layerDone(l int) error {
	if !s.adapted(l) {
		return nil
	}
	g := s.blocks[shapeOf(&s.model.Arch.Layers[l])]
	for r := range g.Linears {
		a, b := s.lora.Factors(l, arch.Role(r))
		if a == nil || s.list[s.at[a]] == nil {
			continue
		}
		w := g.Linears[r].W
		dw := s.model.Dev.Host(w)
		if dw == nil {
			s.host = sized(s.host, w.Len())
			dw = s.host
			s.model.Dev.Download(dw, w, 0)
		}
		s.lora.Project(s.list[s.at[a]], s.list[s.at[b]], dw, l, arch.Role(r), s.model.Dev.For)
	}
	return nil
}

func (s *loraSink) head() *nn.HeadGrads { return nil }

func (s *loraSink) embed([]int32, []float32) {}

func (s *loraSink) grads() []gradient { return hosts(s.list) }

func (s *loraSink) free() {
	for _, g := range s.blocks {
		g.Free()
	}
	s.blocks = nil
}
