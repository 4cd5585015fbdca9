package kvmerge

import (
	"fmt"
	"math"
)

// Choice is a number of KV heads that one layer can have.
type Choice struct {
	Heads int     // after merging
	Cost  float64 // what that costs, in a unit that all layers share
}

// BudgetError says that even the smallest choices do not fit.
type BudgetError struct {
	Budget, Least int64 // Σ heads·width: allowed, and of the smallest choices
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("kvmerge: a budget of %d: the smallest choices of all layers need %d", e.Budget, e.Least)
}

// Bounds of Spread: bytes of its table of choices, heads or width of a layer, layers, choices of a layer.
const (
	maxSpreadTable   = 1 << 28
	maxSpreadSize    = 1 << 24
	maxSpreadLayers  = 1 << 12
	maxSpreadChoices = 1 << 8
)

// Spread returns the index of one choice for each layer such that Σ Heads·width is at most budget and Σ Cost is least. The width of a
// layer is what one of its KV heads takes, its head dim K or bytes of cache, and budget is in the same unit. A layer without choices, one
// without attention, gets -1.
//
// It is a multiple-choice knapsack, solved exactly by dynamic programming over sizes (Kellerer, Pferschy, Pisinger, "Knapsack Problems",
// 2004, section 11.5) in units of their greatest common divisor. For L layers and S units between the smallest choices and the budget,
// or the largest choices where these are less, it takes (L+16)·(S+1) bytes and S+1 steps for each choice of each layer.
//
// Costs are compared in steps of 1e-9 of the largest absolute one. Of equally good results it is the one of least size; of these, the
// one with more heads in the earliest layer where they differ; and of choices that are alike, the first.
//
// A budget that cannot be kept is a *BudgetError. It is an error where a cost is not finite, a number of heads negative, a width not
// positive, any number too large, or the table, over 256 MiB.
func Spread(layers [][]Choice, width []int, budget int64) ([]int, error) {
	s, err := newSpread(layers, width)
	if err != nil {
		return nil, err
	}
	if budget < s.least {
		return nil, &BudgetError{Budget: budget, Least: s.least}
	}
	room := int(min(budget-s.least, s.most-s.least) / s.unit)
	if n := int64(len(s.rows)) * int64(room+1); n > maxSpreadTable {
		return nil, fmt.Errorf("kvmerge: a budget of %d in units of %d: a table of %d bytes, the limit is %d", budget, s.unit, n, maxSpreadTable)
	}
	out := make([]int, len(layers))
	for l := range out {
		out[l] = -1
	}
	picked := s.solve(room)
	for i, row := range s.rows {
		out[row.layer] = picked[i]
	}
	return out, nil
}

// spread is the table of one call.
type spread struct {
	rows        []spreadRow
	least, most int64 // sizes of the smallest and the largest choices
	unit        int64 // greatest common divisor of all differences of size
}

// spreadRow is one layer that has choices.
type spreadRow struct {
	layer int
	extra []int64 // of each choice: size beyond the smallest, in units once all layers are known
	cost  []int64 // steps
}

func newSpread(layers [][]Choice, width []int) (*spread, error) {
	if len(width) != len(layers) || len(layers) > maxSpreadLayers {
		return nil, fmt.Errorf("kvmerge: %d layers, %d widths", len(layers), len(width))
	}
	var largest float64
	for l, choices := range layers {
		if len(choices) > maxSpreadChoices || len(choices) > 0 && (width[l] < 1 || width[l] > maxSpreadSize) {
			return nil, fmt.Errorf("kvmerge: layer %d: %d choices of width %d", l, len(choices), width[l])
		}
		for i, c := range choices {
			if c.Heads < 0 || c.Heads > maxSpreadSize || math.IsNaN(c.Cost) || math.IsInf(c.Cost, 0) {
				return nil, fmt.Errorf("kvmerge: layer %d: choice %d: %d heads at a cost of %v", l, i, c.Heads, c.Cost)
			}
			largest = math.Max(largest, math.Abs(c.Cost))
		}
	}
	s := &spread{}
	for l, choices := range layers {
		if len(choices) > 0 {
			s.add(l, choices, int64(width[l]), largest)
		}
	}
	s.unit = max(s.unit, 1) // 0 where no layer has a choice to make
	for _, row := range s.rows {
		for i := range row.extra {
			row.extra[i] /= s.unit
		}
	}
	return s, nil
}

func (s *spread) add(layer int, choices []Choice, width int64, largest float64) {
	row := spreadRow{layer: layer}
	least, most := choices[0].Heads, choices[0].Heads
	for _, c := range choices {
		least, most = min(least, c.Heads), max(most, c.Heads)
	}
	for _, c := range choices {
		extra := int64(c.Heads-least) * width
		s.unit = divisor(s.unit, extra)
		row.extra = append(row.extra, extra)
		row.cost = append(row.cost, steps(c.Cost, largest))
	}
	s.least += int64(least) * width
	s.most += int64(most) * width
	s.rows = append(s.rows, row)
}

// divisor is the greatest common divisor, where 0 has all divisors.
func divisor(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// solve returns the choice of each row. It goes from the last layer to the first, so that the first can choose knowing what the rest
// will do.
func (s *spread) solve(room int) []int {
	const never = math.MaxInt64
	cost, next := make([]int64, room+1), make([]int64, room+1) // least cost of the layers seen, at exactly each size
	for c := range cost {
		cost[c] = never
	}
	cost[0] = 0
	table := make([][]uint8, len(s.rows))
	for l := len(s.rows) - 1; l >= 0; l-- {
		row := &s.rows[l]
		table[l] = make([]uint8, room+1)
		for c := range next {
			next[c] = never
		}
		for i, extra := range row.extra {
			if extra > int64(room) {
				continue
			}
			for c, before := range cost[:room+1-int(extra)] {
				if before == never {
					continue
				}
				at, sum := c+int(extra), before+row.cost[i]
				if sum < next[at] || sum == next[at] && extra > row.extra[table[l][at]] {
					next[at], table[l][at] = sum, uint8(i)
				}
			}
		}
		cost, next = next, cost
	}
	size := 0
	for c, v := range cost {
		if v < cost[size] {
			size = c
		}
	}
	out := make([]int, len(s.rows))
	for l := range out {
		out[l] = int(table[l][size])
		size -= int(s.rows[l].extra[out[l]])
	}
	return out
}
