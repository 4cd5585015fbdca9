package vib

import (
	"fmt"
	"math"
	"slices"

	"modelpress/prune"
)

// Scores are -log α of every unit as the search has left it: what the masks are most certain of is the highest.
func (m *Masks) Scores() *prune.Scores {
	score := make([]float64, m.u.n)
	for i := range score {
		score[i] = -m.alpha(i)
	}
	s := &prune.Scores{Hidden: slices.Clone(hiddenOf(&m.u, score)), Layers: make([]prune.LayerScores, len(m.u.layers))}
	for i, l := range m.u.layers {
		s.Layers[i] = prune.LayerScores{Layer: score[l.gate], Heads: slices.Clone(headsOf(l, score)), FFN: slices.Clone(channelsOf(l, score))}
	}
	return s
}

// alpha is log α of a unit as the search has left it.
func (m *Masks) alpha(i int) float64 {
	if m.Settled() {
		return logAlpha(m.searched[i], m.logD[i])
	}
	return logAlpha(m.mu[i], m.logD[i])
}

// Wanted returns how many units would stay if the threshold of log α were shifted from 0 to where what stays costs no more than the
// target, as near to it as there is.
func (m *Masks) Wanted() prune.Expected {
	alphas := make([]float64, m.u.n)
	for i := range alphas {
		alphas[i] = m.alpha(i)
	}
	sorted := slices.Clone(alphas)
	slices.Sort(sorted)
	part := make([]float64, m.u.n)
	at := func(count int) prune.Expected {
		limit := math.Inf(1)
		if count < len(sorted) {
			limit = sorted[count]
		}
		for i, a := range alphas {
			part[i] = 0
			if a < limit || !m.free[i] {
				part[i] = 1
			}
		}
		return m.u.expected(part)
	}
	lo, hi := 0, len(sorted) // lo units fit, hi+1 do not
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if m.opt.Target.Soft(prune.Expect(m.arch, m.opt.Target.Length, at(mid))).Value <= m.opt.Target.Share*m.full {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return at(lo)
}

// Settle ends the search: of every kind, the units with the lowest log α stay, as many as counted. It may be called again, with other
// counts, until the first step after it.
func (m *Masks) Settle(c *prune.Counts) error {
	cut, err := prune.CutOf(m.arch, c, m.Scores())
	if err != nil {
		return fmt.Errorf("vib: %w", err)
	}
	if !m.Settled() {
		copy(m.searched, m.mu)
	}
	m.phase[0], m.phase[1] = 1, 0
	copy(m.mu, m.searched)
	for _, v := range m.moments {
		clear(v)
	}
	clear(m.kept)
	m.u.keep(m.kept, cut)
	return nil
}

// keep marks what stays.
func (u *units) keep(kept []float32, c *prune.Cut) {
	mark(hiddenOf(u, kept), &c.Hidden)
	for i, l := range u.layers {
		if c.Layers[i].Drop {
			continue
		}
		kept[l.gate] = 1
		mark(headsOf(l, kept), &c.Layers[i].Heads)
		mark(channelsOf(l, kept), &c.Layers[i].FFN)
	}
}

func mark(kept []float32, u *prune.Units) {
	for _, i := range u.Keep {
		kept[i] = 1
	}
	for i := range kept {
		if u.Keep == nil {
			kept[i] = 1
		}
	}
}

// Cut returns what stays, scaled by mu. The masks must have been settled.
func (m *Masks) Cut() *prune.Cut {
	if !m.Settled() {
		panic("vib: the cut of masks that are still searching")
	}
	c := &prune.Cut{Hidden: m.units(hiddenOf(&m.u, m.kept), hiddenOf(&m.u, m.mu)), Layers: make([]prune.CutLayer, len(m.u.layers))}
	for i, l := range m.u.layers {
		if m.kept[l.gate] == 0 {
			c.Layers[i].Drop = true
			continue
		}
		c.Layers[i] = prune.CutLayer{
			Scale: m.mu[l.gate],
			Heads: m.units(headsOf(l, m.kept), headsOf(l, m.mu)), FFN: m.units(channelsOf(l, m.kept), channelsOf(l, m.mu)),
		}
	}
	return c
}

func (m *Masks) units(kept, mu []float32) prune.Units {
	u := prune.Units{Keep: []int{}, Scale: []float32{}}
	for i, k := range kept {
		if k != 0 {
			u.Keep, u.Scale = append(u.Keep, i), append(u.Scale, mu[i])
		}
	}
	if len(u.Keep) == len(kept) {
		u.Keep = nil
	}
	if !slices.ContainsFunc(u.Scale, func(v float32) bool { return v != 1 }) {
		u.Scale = nil
	}
	return u
}
