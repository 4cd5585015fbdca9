package heads

import (
	"fmt"
	"math"
)

// balanceChoice is the best set of heads of one layer for a count and the busiest load of each number of ranks.
type balanceChoice struct {
	count int
	loads []int
	score float64
	full  []bool
}

// solve chooses heads within the bounds. bound is a sum of scores that no choice exceeds.
func (b *balance) solve(units [][]float64) (full [][]bool, bound float64, err error) {
	for i, w := range b.width {
		if w < 0 {
			return nil, 0, b.infeasible(i)
		}
	}
	layers := make([][]balanceChoice, len(units))
	all := 0
	for l, row := range units {
		if layers[l] = b.choices(row); len(layers[l]) >= math.MaxUint16 {
			return nil, 0, fmt.Errorf("heads: layer %d: %d KV heads leave too many cases over %v ranks", l, len(row), b.ranks)
		}
		all += len(layers[l])
	}
	if states, ok := b.states(len(units), all); ok {
		full, bound = b.exact(layers, states)
	} else {
		full, bound = b.dual(layers)
	}
	if full == nil {
		return nil, 0, b.infeasible(0)
	}
	return full, bound, nil
}

// states is the size of the table of exact, and whether it is small enough.
func (b *balance) states(layers, choices int) (int, bool) {
	n := b.count + 1
	for _, w := range b.width {
		if n *= w + 1; n > maxBalanceStates/layers || n > maxBalanceSteps/choices {
			return 0, false
		}
	}
	return n, true
}

// exact puts choices of layers together by dynamic programming. A state is the count so far and, for each number of ranks,
// the busiest load so far beyond the least possible for that count. It returns nil where nothing meets the bounds.
func (b *balance) exact(layers [][]balanceChoice, states int) (full [][]bool, score float64) {
	at := make([]float64, states)
	for i := range at {
		at[i] = math.Inf(-1)
	}
	at[0] = 0
	taken := make([][]uint16, len(layers)) // 1 + the choice that led to a state
	for l := range layers {
		at, taken[l] = b.step(at, layers[l])
	}
	// All states with the full count meet every bound; the first of the best is taken.
	last := -1
	for s := b.count * (states / (b.count + 1)); s < states; s++ {
		if !math.IsInf(at[s], -1) && (last < 0 || at[s] > at[last]) {
			last = s
		}
	}
	if last < 0 {
		return nil, 0
	}
	full = make([][]bool, len(layers))
	n, over := b.unpack(last)
	for l := len(layers) - 1; l >= 0; l-- {
		c := layers[l][taken[l][b.pack(n, over)]-1]
		full[l] = c.full
		for i, p := range b.parts {
			over[i] += ceilDiv(n, p) - c.loads[i] - ceilDiv(n-c.count, p)
		}
		n -= c.count
	}
	return full, at[last]
}

func (b *balance) infeasible(i int) error {
	return fmt.Errorf("heads: found no choice of %d full heads that keeps the busiest of %d ranks at %d of them", b.count, b.ranks[i], b.limit[i])
}

// step adds one layer to every state.
func (b *balance) step(at []float64, choices []balanceChoice) (next []float64, taken []uint16) {
	next, taken = make([]float64, len(at)), make([]uint16, len(at))
	for i := range next {
		next[i] = math.Inf(-1)
	}
	over := make([]int, len(b.ranks))
	for s, v := range at {
		if math.IsInf(v, -1) {
			continue
		}
		n, from := b.unpack(s)
		for c, o := range choices {
			to := n + o.count
			if to > b.count || !b.move(over, from, n, to, o.loads) {
				continue
			}
			if t := b.pack(to, over); v+o.score > next[t] {
				next[t], taken[t] = v+o.score, uint16(c+1)
			}
		}
	}
	return next, taken
}

// move writes the loads beyond the least possible after a choice, and reports whether the rest can still meet the bounds.
func (b *balance) move(over, from []int, n, to int, loads []int) bool {
	for i, p := range b.parts {
		load := ceilDiv(n, p) + from[i] + loads[i]
		if load+ceilDiv(b.count-to, p) > b.limit[i] {
			return false
		}
		over[i] = load - ceilDiv(to, p)
	}
	return true
}

func (b *balance) pack(n int, over []int) int {
	s := n
	for i, w := range b.width {
		s = s*(w+1) + over[i]
	}
	return s
}

func (b *balance) unpack(s int) (n int, over []int) {
	over = make([]int, len(b.width))
	for i := len(b.width) - 1; i >= 0; i-- {
		over[i] = s % (b.width[i] + 1)
		s /= b.width[i] + 1
	}
	return s, over
}
