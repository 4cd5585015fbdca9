package arch

import "slices"

// Parameter is one stored tensor of a model.
type Parameter struct {
	Name  string
	Shape []int64
	Layer int // -1 for embeddings, final norm and head
}

// Parameters lists every stored tensor of the model once: embeddings, each layer in the order of the forward pass, final
// norm, head (unless tied).
func (m *Model) Parameters() []Parameter {
	out := []Parameter{{m.Embed, dims(m.V, m.D), -1}}
	if m.PosEmbed != "" {
		out = append(out, Parameter{m.PosEmbed, dims(m.MaxPosition, m.D), -1})
	}
	for l := range m.Layers {
		out = append(out, m.LayerParameters(l)...)
	}
	out = appendNorm(out, m.FinalNorm, m.D, -1)
	if !m.Tied {
		out = append(out, Parameter{m.LMHead, dims(m.V, m.D), -1})
	}
	return out
}

// LayerParameters lists the stored tensors of layer l in the order of the forward pass; one that several projections
// share stands once.
func (m *Model) LayerParameters(l int) []Parameter {
	a := &m.Layers[l]
	out := appendNorm(nil, a.AttnNorm, m.D, l)
	for r := range NumRoles {
		if r == O {
			out = appendNorm(out, a.QNorm, a.K, l)
			out = appendNorm(out, a.KNorm, a.K, l)
		}
		if r == Gate {
			out = appendNorm(out, a.FFNNorm, m.D, l)
		}
		lin := a.Linears[r]
		if !lin.Present() || slices.ContainsFunc(out, func(p Parameter) bool { return p.Name == lin.Weight }) {
			continue
		}
		shape := dims(lin.StoredOut, lin.In)
		if lin.Transposed {
			slices.Reverse(shape)
		}
		out = append(out, Parameter{lin.Weight, shape, l})
		if lin.Bias != "" {
			out = append(out, Parameter{lin.Bias, dims(lin.StoredOut), l})
		}
	}
	return out
}

// LayerTensors lists the names of [Model.LayerParameters].
func (m *Model) LayerTensors(l int) []string {
	var out []string
	for _, p := range m.LayerParameters(l) {
		out = append(out, p.Name)
	}
	return out
}

// NumParameters counts the values of all stored tensors; a tied head counts once.
func (m *Model) NumParameters() int64 {
	n := int64(0)
	for _, p := range m.Parameters() {
		size := int64(1)
		for _, d := range p.Shape {
			size *= d
		}
		n += size
	}
	return n
}

// KVBytesPerToken is what one token occupies in the KV caches of all layers under full attention, at elemBytes bytes a
// value.
func (m *Model) KVBytesPerToken(elemBytes int) int64 {
	n := int64(0)
	for l := range m.Layers {
		n += 2 * int64(m.Layers[l].G) * int64(m.Layers[l].K) * int64(elemBytes)
	}
	return n
}

// Clone returns a copy whose layers and rotary embedding can be changed without changing m.
func (m *Model) Clone() *Model {
	c := *m
	c.Layers = slices.Clone(m.Layers)
	if m.Rope != nil {
		r := *m.Rope
		c.Rope = &r
	}
	return &c
}

func appendNorm(out []Parameter, n Norm, width, layer int) []Parameter {
	if n.Weight != "" {
		out = append(out, Parameter{n.Weight, dims(width), layer})
	}
	if n.Bias != "" {
		out = append(out, Parameter{n.Bias, dims(width), layer})
	}
	return out
}

func dims(d ...int) []int64 {
	out := make([]int64, len(d))
	for i, n := range d {
		out[i] = int64(n)
	}
	return out
}
