package prune

import "modelpress/internal/arch"

// layerAxes are the dimensions of the projections of one layer.
type layerAxes struct {
	hidden, written *axis // as it is read, and as it is added to
	query, kv, ffn  *axis // heads as channels; with scales where they are inputs
}

func newLayerAxes(a *arch.Layer, cut *CutLayer, hidden *axis) layerAxes {
	x := layerAxes{hidden: hidden.plain(), written: hidden.times(cut.scale())}
	if a.HasAttention() {
		x.query = newAxis(&cut.Heads, a.G, a.H/a.G*a.K)
		x.kv = newAxis(&Units{Keep: cut.Heads.Keep}, a.G, a.K)
	}
	if a.HasFFN() {
		x.ffn = newAxis(&cut.FFN, a.F, 1)
	}
	return x
}

// in returns what a projection reads.
func (x *layerAxes) in(r arch.Role) *axis {
	switch r {
	case arch.O:
		return x.query
	case arch.Down:
		return x.ffn
	}
	return x.hidden
}

// out returns what a projection makes.
func (x *layerAxes) out(r arch.Role) *axis {
	switch r {
	case arch.Q:
		return x.query.plain()
	case arch.K, arch.V:
		return x.kv
	case arch.Gate, arch.Up:
		return x.ffn.plain()
	}
	return x.written
}
