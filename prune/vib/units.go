package vib

import (
	"modelpress/internal/arch"
	"modelpress/prune"
)

// units numbers what masks multiply: the channels of the residual stream first, then for each layer its gate, its KV heads and
// its FFN channels.
type units struct {
	d      int
	layers []layerUnits
	n      int
}

// layerUnits says where the units of a layer stand. g or f is 0 where it lacks the sub-layer.
type layerUnits struct {
	gate, heads, ffn int
	g, f             int
}

func unitsOf(m *arch.Model) units {
	u := units{d: m.D, n: m.D}
	for i := range m.Layers {
		a := &m.Layers[i]
		l := layerUnits{gate: u.n, g: a.G, f: a.F}
		if !a.HasAttention() {
			l.g = 0
		}
		if !a.HasFFN() {
			l.f = 0
		}
		l.heads = l.gate + 1
		l.ffn = l.heads + l.g
		u.n = l.ffn + l.f
		u.layers = append(u.layers, l)
	}
	return u
}

// The views of a vector over all units.
func hiddenOf[E any](u *units, v []E) []E       { return v[:u.d] }
func headsOf[E any](l layerUnits, v []E) []E    { return v[l.heads : l.heads+l.g] }
func channelsOf[E any](l layerUnits, v []E) []E { return v[l.ffn : l.ffn+l.f] }

// free marks the units that the rules let go.
func (u *units) free(r prune.Rules) []bool {
	out := make([]bool, u.n)
	mark := func(v []bool, yes bool) {
		for i := range v {
			v[i] = yes
		}
	}
	mark(hiddenOf(u, out), r.Hidden)
	for _, l := range u.layers {
		out[l.gate] = r.Depth
		mark(headsOf(l, out), r.Heads)
		mark(channelsOf(l, out), r.FFN)
	}
	return out
}

// weights are those of the prior of every unit.
func (u *units) weights(p Prior) []float64 {
	out := make([]float64, u.n)
	at := func(w float64) float64 {
		if w == 0 {
			w = 1
		}
		return p.All * w
	}
	fill(hiddenOf(u, out), at(p.Hidden))
	for _, l := range u.layers {
		out[l.gate] = at(p.Layer)
		fill(headsOf(l, out), at(p.Heads))
		fill(channelsOf(l, out), at(p.FFN))
	}
	return out
}
