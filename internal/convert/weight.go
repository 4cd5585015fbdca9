package convert

import (
	"modelpress/formats"
	"modelpress/internal/arch"
)

// weight is what a tensor with plain values is to the model.
type weight struct {
	lin     arch.Linear // of a module that can be quantized; not Present for others
	fused   []string    // weights that runtimes put into one matrix with it
	layer   int         // -1 for the output head
	dropped bool        // the stored copy of a tied output head
}

// weights describes the tensors of a model by name. m is nil for a model of a family that is not known.
func weights(m *arch.Model, head bool) map[string]weight {
	list := map[string]weight{}
	if m == nil {
		return list
	}
	for l := range m.Layers {
		for r, lin := range m.Layers[l].Linears {
			if lin.Present() {
				list[lin.Weight] = weight{lin: lin, fused: fusedWith(&m.Layers[l], arch.Role(r)), layer: l}
			}
		}
	}
	if name := arch.HeadModule + ".weight"; m.Tied && name != m.Embed {
		list[name] = weight{layer: -1, dropped: true}
	}
	if head && !m.Tied {
		list[m.LMHead] = weight{lin: arch.Linear{Weight: m.LMHead, In: m.D, Out: m.V, StoredOut: m.V}, layer: -1}
	}
	return list
}

// fusedWith lists the weights that runtimes load into one matrix with a projection: q, k and v; gate and up.
func fusedWith(a *arch.Layer, r arch.Role) []string {
	var out []string
	for _, group := range arch.FusedRoles() {
		for _, x := range group {
			if x != r {
				continue
			}
			for _, other := range group {
				if lin := a.Linears[other]; other != r && lin.Present() && lin.Weight != a.Linears[r].Weight {
					out = append(out, lin.Weight)
				}
			}
		}
	}
	return out
}

// storage says how a tensor of the dense view is stored, for people.
func storage(src formats.Source, q formats.Quantized, name string) string {
	if q != nil {
		if s, ok := q.Storage(name); ok {
			if s.Grid {
				return gridName(s.Format, s.Code, s.Group, s.Symmetric, s.Ordered)
			}
			return s.Format
		}
	}
	t, _ := src.Lookup(name)
	return t.DType.String()
}
