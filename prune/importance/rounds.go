package importance

import (
	"context"
	"fmt"
	"math"

	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/prune"
)

// Rounds cuts a model to a shape in several rounds: each measures what the cut so far leaves, as a view of the source, and cuts an equal
// part of the units that are to go, of every kind. One round cuts at once by the scores of the source. score is called once a
// round, with the number of the round from 0 on and a model whose layers are alike.
//
// Minitron finds one round as good as four (Muralidharan et al., arXiv:2407.14679, best practice 3); LLM-Pruner has several as an
// option. Errors are those of score, of the shape and of views.
func Rounds(ctx context.Context, m *nn.Model, shape prune.Shape, rounds int, score func(ctx context.Context, round int, m *nn.Model) (*prune.Scores, error)) (*prune.Cut, error) {
	if rounds < 1 {
		return nil, fmt.Errorf("importance: %d rounds", rounds)
	}
	if len(m.Arch.Layers) == 0 {
		return nil, fmt.Errorf("importance: a model without layers")
	}
	whole := prune.Shape{D: m.Arch.D, G: m.Arch.Layers[0].G, F: m.Arch.Layers[0].F, Layers: len(m.Arch.Layers)}
	cut := &prune.Cut{Layers: make([]prune.CutLayer, whole.Layers)}
	for r := range rounds {
		next := between(m.Arch, whole, shape, float64(r+1)/float64(rounds))
		step, err := round(ctx, m, cut, next, func(ctx context.Context, v *nn.Model) (*prune.Scores, error) { return score(ctx, r, v) })
		if err != nil {
			return nil, fmt.Errorf("importance: round %d: %w", r+1, err)
		}
		if cut, err = prune.Compose(cut, step); err != nil {
			return nil, fmt.Errorf("importance: round %d: %w", r+1, err)
		}
	}
	return cut, cut.Check(m.Arch)
}

// round measures the model that a cut leaves and cuts that to a shape.
func round(ctx context.Context, m *nn.Model, cut *prune.Cut, to prune.Shape, score func(context.Context, *nn.Model) (*prune.Scores, error)) (*prune.Cut, error) {
	v, err := small(m, cut)
	if err != nil {
		return nil, err
	}
	defer v.Release()
	s, err := score(ctx, v)
	if err != nil {
		return nil, err
	}
	return shaped(v.Arch, to, s)
}

// small returns the model that a cut leaves, a view of m's source on the same device.
func small(m *nn.Model, cut *prune.Cut) (*nn.Model, error) {
	src, a, err := prune.View(m.Src, m.Arch, cut)
	if err != nil {
		return nil, err
	}
	return nn.New(m.Dev, src, a), nil
}

// shaped returns the cut of a model to a shape that keeps what scores best.
func shaped(m *arch.Model, to prune.Shape, s *prune.Scores) (*prune.Cut, error) {
	n, err := to.Counts(m, s)
	if err != nil {
		return nil, err
	}
	return prune.CutOf(m, n, s)
}

// between returns the shape at a part of the way from one to another. Where queries, keys and values are one tensor, the width goes
// with the heads.
func between(m *arch.Model, from, to prune.Shape, part float64) prune.Shape {
	at := func(a, b int) int { return a + int(math.Round(float64(b-a)*part)) }
	x := prune.Shape{D: at(from.D, to.D), G: at(from.G, to.G), F: at(from.F, to.F), Layers: at(from.Layers, to.Layers)}
	if k := &m.Layers[0].Linears[arch.K]; k.Present() && k.StoredOut != k.Out {
		x.D = x.G * (m.Layers[0].H / m.Layers[0].G) * m.Layers[0].K
	}
	return x
}
