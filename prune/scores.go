package prune

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"modelpress/internal/arch"
)

// Scores say what is worth keeping: the higher, the longer it stays. A slice that is nil says nothing of its units, all of which must
// stay then. Scores of one kind are compared across layers as they are.
type Scores struct {
	Hidden []float64 // [D]
	Layers []LayerScores
}

// LayerScores are those of one layer.
type LayerScores struct {
	Layer float64
	Heads []float64 // [G], KV heads
	FFN   []float64 // [F]
}

// Check reports scores of another number than the model's units, and such as are not finite.
func (s *Scores) Check(m *arch.Model) error {
	if len(s.Layers) != len(m.Layers) {
		return fmt.Errorf("prune: scores of %d layers for a model of %d", len(s.Layers), len(m.Layers))
	}
	check := func(what string, v []float64, n int) error {
		if v != nil && len(v) != n {
			return fmt.Errorf("prune: %d scores of %d %s", len(v), n, what)
		}
		if slices.ContainsFunc(v, func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }) {
			return fmt.Errorf("prune: a score of %s is not finite", what)
		}
		return nil
	}
	err := check("channels", s.Hidden, m.D)
	for l := range s.Layers {
		for _, e := range []error{
			check(fmt.Sprintf("layer %d", l), []float64{s.Layers[l].Layer}, 1),
			check(fmt.Sprintf("KV heads of layer %d", l), s.Layers[l].Heads, m.Layers[l].G),
			check(fmt.Sprintf("FFN channels of layer %d", l), s.Layers[l].FFN, m.Layers[l].F),
		} {
			if err == nil {
				err = e
			}
		}
	}
	return err
}

// ranked returns the units 0..n-1, best first, equals in their order; in their order where there are no scores.
func ranked(scores []float64, n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if scores != nil {
		slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b)) })
	}
	return order
}

// best returns the count best units of n, ascending; nil for all of them.
func best(scores []float64, n, count int) []int {
	if count == n {
		return nil
	}
	keep := ranked(scores, n)[:count:count]
	slices.Sort(keep)
	return keep
}
