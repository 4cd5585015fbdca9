package prune

import (
	"fmt"

	"modelpress/internal/arch"
)

// Counts say how many units stay: of the stream and of each layer of the source.
type Counts struct {
	Hidden int
	Layers []LayerCounts
}

// LayerCounts are those of one layer. 0 heads or FFN channels leave the sub-layer out; it is 0 where the layer lacks it.
type LayerCounts struct {
	Drop  bool // then nothing else is said
	Heads int  // KV heads
	FFN   int
}

// Counts are the units that a cut leaves of a model that it fits.
func (c *Cut) Counts(m *arch.Model) *Counts {
	n := &Counts{Hidden: c.Hidden.count(m.D), Layers: make([]LayerCounts, len(c.Layers))}
	for l := range c.Layers {
		cl, a := &c.Layers[l], &m.Layers[l]
		n.Layers[l] = LayerCounts{Heads: cl.Heads.count(a.G), FFN: cl.FFN.count(a.F)}
		if cl.Drop {
			n.Layers[l] = LayerCounts{Drop: true}
		}
	}
	return n
}

// Expected are the counts as numbers.
func (c *Counts) Expected() Expected {
	e := Expected{Hidden: float64(c.Hidden), Layers: make([]ExpectedLayer, len(c.Layers))}
	for l, n := range c.Layers {
		e.Layers[l] = ExpectedLayer{one(!n.Drop), float64(n.Heads), float64(n.FFN)}
	}
	return e
}

// Counts are the units of each layer in a shape: the layers with the best scores stay, of equals the first. The layers of the model
// must be alike. Errors are those of [Scores.Check] and shapes that the model does not have room for.
func (x Shape) Counts(m *arch.Model, s *Scores) (*Counts, error) {
	if err := s.Check(m); err != nil {
		return nil, err
	}
	base, err := shapeOf(m, false)
	if err != nil {
		return nil, err
	}
	if min(x.D, x.G, x.F, x.Layers) < 1 || x.D > base.D || x.G > base.G || x.F > base.F || x.Layers > base.Layers {
		return nil, fmt.Errorf("prune: shape %+v of a model of shape %+v", x, base)
	}
	layers := make([]float64, len(s.Layers))
	for l := range layers {
		layers[l] = s.Layers[l].Layer
	}
	c := &Counts{Hidden: x.D, Layers: make([]LayerCounts, len(m.Layers))}
	for rank, l := range ranked(layers, len(layers)) {
		c.Layers[l] = LayerCounts{Drop: true}
		if rank < x.Layers {
			c.Layers[l] = LayerCounts{Heads: x.G, FFN: x.F}
		}
	}
	return c, nil
}

// CutOf keeps the units with the best scores, as many of each kind as asked; of equals the first. Scales are not set. It fails on
// counts that do not fit the model and on scores that are missing where some units are to go.
func CutOf(m *arch.Model, n *Counts, s *Scores) (*Cut, error) {
	if err := s.Check(m); err != nil {
		return nil, err
	}
	if len(n.Layers) != len(m.Layers) {
		return nil, fmt.Errorf("prune: counts of %d layers for a model of %d", len(n.Layers), len(m.Layers))
	}
	c := &Cut{Layers: make([]CutLayer, len(m.Layers))}
	var err error
	if c.Hidden.Keep, err = keep("channels", s.Hidden, m.D, n.Hidden); err != nil {
		return nil, err
	}
	for l, want := range n.Layers {
		cl, a := &c.Layers[l], &m.Layers[l]
		if cl.Drop = want.Drop; want.Drop {
			if want != (LayerCounts{Drop: true}) {
				return nil, fmt.Errorf("prune: layer %d is dropped and has units", l)
			}
			continue
		}
		if cl.Heads.Keep, err = keep(fmt.Sprintf("KV heads of layer %d", l), s.Layers[l].Heads, a.G, want.Heads); err != nil {
			return nil, err
		}
		if cl.FFN.Keep, err = keep(fmt.Sprintf("FFN channels of layer %d", l), s.Layers[l].FFN, a.F, want.FFN); err != nil {
			return nil, err
		}
	}
	return c, c.Check(m)
}

// keep returns the best units.
func keep(what string, scores []float64, n, count int) ([]int, error) {
	switch {
	case count < 0 || count > n:
		return nil, fmt.Errorf("prune: %d of %d %s are to stay", count, n, what)
	case count > 0 && count < n && scores == nil:
		return nil, fmt.Errorf("prune: %d of %d %s are to stay, and there are no scores of them", count, n, what)
	}
	return best(scores, n, count), nil
}
