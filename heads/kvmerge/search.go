package kvmerge

import "slices"

// search finds good groups where there are too many for an exact solution. Several starts are made: neighbours; pairs matched, then pairs
// of pairs and so on, where T is a power of two; and simulated annealing over the costs of pairs, restarted. The cheapest two at the
// true cost of groups go downhill by swaps of two heads until no swap helps, and the better end is taken.
//
// The fewest mixed groups are known beforehand: as many groups as possible are of one class each, and what remains of the classes,
// less than a group of each, is mixed whichever way it is grouped. So all starts have the fewest, and swaps keep them.
//
// Memory: 8·N² bytes for the costs of pairs and 8·N²/T for each restart.
func (g Grouping) search(c *groupCosts) Groups {
	starts := []Groups{canonical(g.arrange(ascending(g.N)))}
	if g.T&(g.T-1) == 0 {
		groups := singles(g.N)
		for len(groups[0]) < g.T {
			groups = g.matched(c, groups)
		}
		starts = append(starts, groups)
	}
	pairs := subsets(g.N, 2)
	c.learn(pairs)
	for _, groups := range g.anneal(c) {
		starts = append(starts, canonical(groups))
	}
	scale := pairs
	for _, s := range starts {
		c.learn(s)
		scale = append(scale, s...)
	}
	d := descent{Grouping: g, costs: c, largest: c.largest(scale)}
	return d.best(starts)
}

func ascending(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// arrange makes groups of heads in the order given, with the fewest mixed ones, which come last.
func (g Grouping) arrange(order []int) Groups {
	var out Groups
	var remain []int
	for _, class := range g.classes() {
		var own []int
		for _, h := range order {
			if g.classOf(h) == class {
				own = append(own, h)
			}
		}
		whole := len(own) / g.T * g.T
		out = slices.AppendSeq(out, slices.Chunk(own[:whole], g.T))
		remain = append(remain, own[whole:]...)
	}
	return slices.AppendSeq(out, slices.Chunk(remain, g.T))
}

// classes returns the classes, ascending.
func (g Grouping) classes() []int {
	if g.Class == nil {
		return []int{0}
	}
	return slices.Compact(slices.Sorted(slices.Values(g.Class)))
}

func (g Grouping) classOf(h int) int {
	if g.Class == nil {
		return 0
	}
	return g.Class[h]
}

// swappable reports whether heads of two groups can change places without more mixed groups.
func (g Grouping) swappable(a, b int, mixed bool) bool {
	return mixed || g.classOf(a) == g.classOf(b)
}
