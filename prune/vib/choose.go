package vib

import (
	"errors"

	"modelpress/internal/arch"
	"modelpress/prune"
)

// Compact settles the masks for a model with sizes of its own in every layer, and returns its counts. Where too much has gone with
// layers that are not wanted, they come back, the best first. A sub-layer whose output has a bias keeps some unit, since masks leave
// the bias where a cut of all units would not. Errors are those of [prune.FitLayers].
func (m *Masks) Compact() (*prune.Counts, error) {
	want, scores := m.Wanted(), m.Scores()
	m.keepBiases(&want)
	for {
		c, err := prune.FitLayers(m.arch, m.opt.Target, m.opt.Rules, want, scores)
		if err == nil {
			return c, m.Settle(c)
		}
		var miss *prune.TargetError
		best := -1
		for l, w := range want.Layers {
			if w.Layer == 0 && (best < 0 || scores.Layers[l].Layer > scores.Layers[best].Layer) {
				best = l
			}
		}
		if !errors.As(err, &miss) || best < 0 {
			return nil, err
		}
		want.Layers[best].Layer = 1
	}
}

// keepBiases wants a unit of each sub-layer whose output has a bias.
func (m *Masks) keepBiases(want *prune.Expected) {
	_, multiple := prune.DefaultMultiples(m.arch)
	if m.opt.Rules.FFNMultiple > 0 {
		multiple = m.opt.Rules.FFNMultiple
	}
	for l := range want.Layers {
		a, w := &m.arch.Layers[l], &want.Layers[l]
		if a.Linears[arch.O].Bias != "" {
			w.Heads = max(w.Heads, 1)
		}
		if a.Linears[arch.Down].Bias != "" {
			w.FFN = max(w.FFN, float64(multiple))
		}
	}
}
