package heads

import (
	"slices"
	"sort"
)

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
