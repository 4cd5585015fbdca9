package vib

import (
	"context"
	"errors"
	"fmt"
	"math"

	"modelpress/internal/arch"
	"modelpress/prune"
)

// Portable settles the masks for a model whose layers are alike, and returns its counts. Of the shapes that meet the target, the
// tries that are nearest to what the masks want are looked at, and the one with the least loss is taken, of equals the nearest. loss
// is that of the model under the masks as they are settled then, on windows that the result is not judged by. On an error the masks
// search on. Errors are those of [prune.Shapes], of loss, and losses that are no number.
func (m *Masks) Portable(ctx context.Context, tries int, loss func(ctx context.Context) (float64, error)) (*prune.Counts, error) {
	shapes, err := prune.Shapes(m.arch, m.opt.Target, m.opt.Rules, prune.Wish{Sizes: sizesOf(m.Wanted()), Most: max(1, tries)})
	if err != nil {
		return nil, err
	}
	var best *prune.Counts
	least := math.Inf(1)
	for _, s := range shapes {
		c, l, err := m.try(ctx, s, loss)
		if err != nil {
			m.phase[0] = 0
			copy(m.mu, m.searched)
			return nil, fmt.Errorf("vib: shape %+v: %w", s, err)
		}
		if best == nil || l < least {
			best, least = c, l
		}
	}
	return best, m.Settle(best)
}

func (m *Masks) try(ctx context.Context, s prune.Shape, loss func(ctx context.Context) (float64, error)) (*prune.Counts, float64, error) {
	c, err := s.Counts(m.arch, m.Scores())
	if err != nil {
		return nil, 0, err
	}
	if err := m.Settle(c); err != nil {
		return nil, 0, err
	}
	l, err := loss(ctx)
	if err == nil && math.IsNaN(l) {
		err = fmt.Errorf("the loss is %g", l)
	}
	return c, l, err
}

// sizesOf are the mean sizes of layers that stay.
func sizesOf(e prune.Expected) prune.Sizes {
	s := prune.Sizes{D: e.Hidden}
	for _, l := range e.Layers {
		s.G += float64(l.Layer * l.Heads)
		s.F += float64(l.Layer * l.FFN)
		s.Layers += l.Layer
	}
	n := max(1, s.Layers)
	s.G, s.F = s.G/n, s.F/n
	return s
}

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
