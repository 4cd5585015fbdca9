package heads

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// balanceChoice is the best set of heads of one layer for a count and the busiest load of each number of ranks.
type balanceChoice struct {
	count int
	loads []int
	score float64
	full  []bool
}

// solve puts choices of layers together. A state is the count so far and, for each number of ranks, the busiest load so
// far beyond the least possible for that count.
func (b *balance) solve(units [][]float64) ([][]bool, error) {
	states := b.count + 1
	for i, w := range b.width {
		if w < 0 {
			return nil, b.infeasible(i)
		}
		if states *= w + 1; states > maxBalanceStates/max(1, len(units)) {
			return nil, fmt.Errorf("heads: bounds on the loads of %v ranks leave too many cases; give fewer or a smaller factor", b.ranks)
		}
	}
	at := make([]float64, states)
	for i := range at {
		at[i] = math.Inf(-1)
	}
	at[0] = 0
	layers := make([][]balanceChoice, len(units))
	taken := make([][]uint16, len(units)) // 1 + the balanceChoice that led to a state
	for l, row := range units {
		if layers[l] = b.choices(row); len(layers[l]) >= math.MaxUint16 {
			return nil, fmt.Errorf("heads: layer %d: %d KV heads leave too many cases over %v ranks", l, len(row), b.ranks)
		}
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
		return nil, b.infeasible(0)
	}
	full := make([][]bool, len(units))
	n, over := b.unpack(last)
	for l := len(units) - 1; l >= 0; l-- {
		c := layers[l][taken[l][b.pack(n, over)]-1]
		full[l] = c.full
		for i, p := range b.parts {
			over[i] += ceilDiv(n, p) - c.loads[i] - ceilDiv(n-c.count, p)
		}
		n -= c.count
	}
	return full, nil
}

func (b *balance) infeasible(i int) error {
	return fmt.Errorf("heads: no balanceChoice of %d full heads keeps the busiest of %d ranks at %d of them", b.count, b.ranks[i], b.limit[i])
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

// move writes the loads beyond the least possible after a balanceChoice, and reports whether the rest can still meet the bounds.
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

// choices lists what one layer can contribute, without those that another of the same count beats in everything.
func (b *balance) choices(row []float64) []balanceChoice {
	order := make([]int, len(row))
	for h := range order {
		order[h] = h
	}
	sort.SliceStable(order, func(i, j int) bool { return row[order[i]] > row[order[j]] })
	all := []balanceChoice{{loads: make([]int, len(b.ranks)), full: make([]bool, len(row))}}
	caps := make([]int, len(b.ranks))
	var each func(i int)
	each = func(i int) {
		if i == len(caps) {
			all = append(all, b.greedy(row, order, caps)...)
			return
		}
		for caps[i] = 1; caps[i] <= max(1, len(row)/b.ranks[i]); caps[i]++ {
			each(i + 1)
		}
	}
	each(0)
	sort.SliceStable(all, func(i, j int) bool {
		if all[i].count != all[j].count {
			return all[i].count < all[j].count
		}
		return all[i].score > all[j].score
	})
	var kept []balanceChoice
	for _, c := range all {
		if !slices.ContainsFunc(kept, func(k balanceChoice) bool { return k.count == c.count && below(k.loads, c.loads) }) {
			kept = append(kept, c)
		}
	}
	return kept
}

// greedy takes heads in order where they fit the caps of their blocks, and notes each step.
func (b *balance) greedy(row []float64, order, caps []int) []balanceChoice {
	var out []balanceChoice
	c := balanceChoice{loads: make([]int, len(caps)), full: make([]bool, len(row))}
	load := make([]map[int]int, len(caps))
	for i := range load {
		load[i] = map[int]int{}
	}
	block := func(i, h int) int { return h * min(b.ranks[i], len(row)) / len(row) }
	for _, h := range order {
		fits := true
		for i, most := range caps {
			fits = fits && load[i][block(i, h)] < most
		}
		if !fits {
			continue
		}
		for i := range caps {
			load[i][block(i, h)]++
			c.loads[i] = max(c.loads[i], load[i][block(i, h)])
		}
		c.count++
		c.score += row[h]
		c.full[h] = true
		out = append(out, balanceChoice{c.count, slices.Clone(c.loads), c.score, slices.Clone(c.full)})
	}
	return out
}

// below reports whether no load of a exceeds that of b.
func below(a, b []int) bool {
	for i := range a {
		if a[i] > b[i] {
			return false
		}
	}
	return true
}
