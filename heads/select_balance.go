package heads

import (
	"fmt"
	"math"
)

// Balanced is a selection whose full heads lie evenly on the ranks of tensor parallelism. Its Cut is the smallest score of
// a full head; heads of a larger score may be left out.
type Balanced struct {
	Selection
	GivenUp float64    // sum of the scores of the best heads less that of the chosen ones
	Least   float64    // what every choice within the bounds gives up at least: GivenUp, where the search was exact
	Loads   []RankLoad // for each number of ranks asked for
}

// Bounds of the exact search: entries of its table over all layers, and steps.
const (
	maxBalanceStates = 1 << 26
	maxBalanceSteps  = 1 << 28
)

// SelectBalanced chooses the count KV heads with the largest sum of scores (rounded as by [Round]) such that for each of
// the numbers of ranks given, [RankLoad].Busiest is at most factor times the ideal load. Where the best heads meet these
// bounds, they are the result. Within a layer the bounds of the ranks' blocks form a laminar matroid, for which taking the best
// head that fits is optimal (Edmonds, 1971); layers are put together by dynamic programming over the count and each busiest
// load, which is exact, or, where that table is too large, by prices of the loads, and Least says how far from the best the
// result can be. Each number of ranks must divide the next. It is an error where no choice of count heads
// is found that meets the bounds. Where layers differ in their number of KV heads, ranks beyond it hold copies and the ideal is that of the
// layer that splits furthest, the stricter one.
//
// The table takes layers·(count+1)·Π(w+1)·2 bytes, w the loads between ideal and bound, and at most 128 MiB.
func SelectBalanced(scores [][]float64, count int, factor float64, ranks ...int) (Balanced, error) {
	best := SelectCount(scores, count)
	if !(factor >= 1) || math.IsInf(factor, 0) || len(ranks) == 0 {
		return Balanced{}, fmt.Errorf("heads: load of at most %g times the ideal over %d numbers of ranks", factor, len(ranks))
	}
	for i, r := range ranks {
		if i > 0 && (r <= ranks[i-1] || r%ranks[i-1] != 0) {
			return Balanced{}, fmt.Errorf("heads: %d ranks do not divide %d", ranks[i-1], r)
		}
		if _, err := TensorParallel(best.Full, r); err != nil {
			return Balanced{}, err
		}
	}
	units, err := scoreUnits(scores)
	if err != nil {
		return Balanced{}, err
	}
	b := newBalance(scores, best.Count, factor, ranks)
	if b.meets(best.Full) {
		return b.result(scores, units, best, best.Full, total(units, best.Full)), nil
	}
	full, bound, err := b.solve(units)
	if err != nil {
		return Balanced{}, err
	}
	return b.result(scores, units, best, full, bound), nil
}

// scoreUnits returns rounded scores in whole millionths, whose sums are exact.
func scoreUnits(scores [][]float64) ([][]float64, error) {
	out := make([][]float64, len(scores))
	for l, row := range scores {
		out[l] = make([]float64, len(row))
		for h, v := range row {
			u := math.Round(v * 1e6)
			if !(math.Abs(u) < 1<<40) {
				return nil, fmt.Errorf("heads: layer %d: score %g of head %d", l, v, h)
			}
			out[l][h] = u
		}
	}
	return out, nil
}

// balance is one problem of SelectBalanced.
type balance struct {
	count int
	ranks []int
	parts []int // per number of ranks: blocks that a layer splits into, the most of any layer
	limit []int // per number of ranks: the greatest busiest load allowed
	width []int // limit less the least load possible
}

func newBalance(scores [][]float64, count int, factor float64, ranks []int) *balance {
	b := &balance{count: count, ranks: ranks}
	for _, r := range ranks {
		parts := 1
		for _, row := range scores {
			parts = max(parts, min(r, len(row)))
		}
		limit := int(math.Min(float64(count), math.Floor(float64(factor*float64(count))/float64(parts)+1e-9)))
		b.parts = append(b.parts, parts)
		b.limit = append(b.limit, limit)
		b.width = append(b.width, limit-ceilDiv(count, parts))
	}
	return b
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func (b *balance) meets(full [][]bool) bool {
	for i, r := range b.ranks {
		if load, err := TensorParallel(full, r); err != nil || load.Busiest > b.limit[i] {
			return false
		}
	}
	return true
}

// total adds up the scores of full heads.
func total(units [][]float64, full [][]bool) float64 {
	var sum float64
	for l, row := range full {
		for h, f := range row {
			if f {
				sum += units[l][h]
			}
		}
	}
	return sum
}

func (b *balance) result(scores, units [][]float64, best Selection, full [][]bool, bound float64) Balanced {
	out := Balanced{Selection: Selection{Full: full, Count: best.Count, Total: best.Total, Cut: math.Inf(1)}}
	for _, r := range b.ranks {
		load, _ := TensorParallel(full, r) // checked before
		out.Loads = append(out.Loads, load)
	}
	for l, row := range full {
		for h, f := range row {
			if f {
				out.Cut = math.Min(out.Cut, Round(scores[l][h]))
			}
		}
	}
	for l, row := range full {
		for h, f := range row {
			if !f && Round(scores[l][h]) == out.Cut {
				out.TiesAtCut++
			}
		}
	}
	most := total(units, best.Full)
	out.GivenUp, out.Least = (most-total(units, full))/1e6, (most-bound)/1e6
	return out
}
