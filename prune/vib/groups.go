package vib

import (
	"fmt"

	"modelpress/prune"
)

// group is units of one kind and place, and how many of them are to stay: the stream's channels, a layer's heads or FFN channels, a
// layer itself.
type group struct {
	lo, n  int
	want   float64
	weight float64 // the share of the whole cost that the group has while everything else stays
	start  float64 // the share of it that is expected to be saved before the first step
}

// groups are those that a search for given counts keeps apart. A group of which all stays, or that has no masks, is none.
func (m *Masks) groups(c *prune.Counts) ([]group, error) {
	if len(c.Layers) != len(m.u.layers) {
		return nil, fmt.Errorf("vib: counts of %d layers for a model of %d", len(c.Layers), len(m.u.layers))
	}
	by := m.opt.Target.Soft(prune.Expect(m.arch, m.opt.Target.Length, prune.All(m.arch))).Grad
	keep := m.soft(m.opt.Beta)
	var out []group
	add := func(what string, lo, n, want int, slope float64) error {
		if want < 0 || want > n {
			return fmt.Errorf("vib: %d of %d %s are to stay", want, n, what)
		}
		if n > 0 && want < n && m.free[lo] {
			out = append(out, group{lo, n, float64(want), float64(float64(n)*slope) / m.full, 1 - sum(keep[lo:lo+n])/float64(n)})
		}
		return nil
	}
	if err := add("channels", 0, m.u.d, c.Hidden, by.Hidden); err != nil {
		return nil, err
	}
	for i, l := range m.u.layers {
		n, g := c.Layers[i], by.Layers[i]
		if n.Drop {
			if err := add("layers", l.gate, 1, 0, g.Layer); err != nil {
				return nil, err
			}
			continue
		}
		if err := add(fmt.Sprintf("KV heads of layer %d", i), l.heads, l.g, n.Heads, g.Heads); err != nil {
			return nil, err
		}
		if err := add(fmt.Sprintf("FFN channels of layer %d", i), l.ffn, l.f, n.FFN, g.FFN); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// spendGroups computes the budgets of a step, one for each group: of its own units, the share that is saved. A constraint is weighed by
// the share of the whole cost that its group has, so that a unit is pulled as one constraint on the whole cost would.
func (m *Masks) spendGroups(step int) []budget {
	beta := m.opt.Beta
	keep := m.soft(beta)
	out := make([]budget, len(m.parts))
	for i, g := range m.parts {
		n := float64(g.n)
		b := budget{lo: g.lo, weight: g.weight, slopes: make([]float64, g.n)}
		b.saved = 1 - sum(keep[g.lo:g.lo+g.n])/n
		b.target = m.opt.rise(step, g.start, 1-g.want/n)
		for u, k := range keep[g.lo : g.lo+g.n] {
			b.slopes[u] = float64(beta*float64(k*(1-k))) / n
		}
		out[i] = b
	}
	return out
}
