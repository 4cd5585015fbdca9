package kvmerge

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"modelpress/internal/num"
)

// groupCosts remembers what sets of heads cost.
type groupCosts struct {
	of    func(members []int) float64
	par   num.Par
	known map[string]float64
}

// learn asks for the costs of those sets, members ascending, that are not known yet, in parallel.
func (c *groupCosts) learn(sets [][]int) {
	var ask [][]int
	queued := map[string]bool{}
	for _, s := range sets {
		key := setKey(s)
		if _, ok := c.known[key]; !ok && !queued[key] {
			queued[key] = true
			ask = append(ask, s)
		}
	}
	answer := make([]float64, len(ask))
	body := func(i int) { answer[i] = c.of(slices.Clone(ask[i])) }
	if c.par == nil || len(ask) < 2 {
		for i := range ask {
			body(i)
		}
	} else {
		c.par(len(ask), body)
	}
	for i, s := range ask {
		if math.IsNaN(answer[i]) || math.IsInf(answer[i], 0) {
			panic(fmt.Sprintf("kvmerge: heads %v cost %v", s, answer[i]))
		}
		c.known[setKey(s)] = answer[i]
	}
}

// at returns a cost that was learned.
func (c *groupCosts) at(members []int) float64 {
	v, ok := c.known[setKey(members)]
	if !ok {
		panic(fmt.Sprintf("kvmerge: cost of heads %v was not asked for", members))
	}
	return v
}

// largest is the largest absolute cost of sets that were learned.
func (c *groupCosts) largest(sets [][]int) float64 {
	var out float64
	for _, s := range sets {
		out = math.Max(out, math.Abs(c.at(s)))
	}
	return out
}

func setKey(members []int) string {
	b := make([]byte, 0, 2*len(members))
	for _, h := range members {
		b = binary.LittleEndian.AppendUint16(b, uint16(h))
	}
	return string(b)
}

// Steps of the largest absolute cost that costs are compared in; and what a mixed group costs besides, more than all others can.
const (
	costSteps = 1e9
	mixedStep = 1 << 40
)

// steps returns a cost in whole steps, so that sums are exact. One far beyond the largest is cut off, where it is still worse than
// any sum of others.
func steps(cost, largest float64) int64 {
	if largest == 0 {
		largest = 1
	}
	const limit = 1 << 52
	return int64(math.Max(-limit, math.Min(limit, math.Round(cost/largest*costSteps))))
}

// weights returns the costs of sets in steps of the largest of them, with mixedStep for each that is mixed. It asks for those
// that are not known.
func (g Grouping) weights(c *groupCosts, sets [][]int) []int64 {
	c.learn(sets)
	largest := c.largest(sets)
	out := make([]int64, len(sets))
	for i, s := range sets {
		out[i] = steps(c.at(s), largest)
		if g.mixed(s) {
			out[i] += mixedStep
		}
	}
	return out
}
