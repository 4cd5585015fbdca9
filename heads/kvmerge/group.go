package kvmerge

import (
	"fmt"
	"slices"

	"modelpress/internal/num"
)

// Grouping chooses which KV heads of one layer share: a partition of N heads into N/T groups of T. T must divide N.
//
// Groups of more than one class are avoided first, then the sum of Cost over the groups is made small. Costs are compared in
// steps of 1e-9 of the largest, so that the last bits of two machines do not change a grouping.
//
// Memory: about 100 bytes for each set whose cost was asked for, and that of the way that [Grouping.Solve] takes.
type Grouping struct {
	N, T int
	// Cost is what it costs that these heads, ascending, share one KV head, in any unit. It is finite and deterministic, is
	// asked once for a set at most, and from several threads at once where Par is. Besides groups of T heads, it is asked for
	// smaller ones.
	Cost func(members []int) float64
	// Class is the class of each head, [N], for instance whether it retrieves; nil where anyone may share with anyone.
	Class []int
	Seed  uint64  // of the search, where it is not exact
	Par   num.Par // nil runs serially; the result does not depend on it
}

// Found says what a grouping costs.
type Found struct {
	Cost  float64 // sum of the groups' costs, in the order of the groups; 0 where T is 1
	Mixed int     // groups of more than one class, always the fewest possible
	Exact bool    // no other grouping of so few mixed groups costs less, but for the rounding of costs
}

// Bounds of the exact solution over sets: their number, and heads, since its table has an entry for each set of heads.
const (
	maxGroupSets  = 2500
	maxGroupHeads = 20
)

// Solve returns the groups, members ascending, in the order of their first members.
//
// Pairs are a minimum-weight perfect matching (Edmonds, 1965). Larger groups are solved by dynamic programming over sets of heads,
// in 8·2^N bytes, where there are at most 2500 possible groups of at most 20 heads: N = 8 and 16 for T = 4. Both are exact, and of
// several best groupings they return the lexicographically smallest. All other sizes are searched (see search). A head by itself
// costs nothing, and Cost is not asked for it.
//
// Sizes that contradict each other and costs that are not finite are bugs of the caller and panic.
func (g Grouping) Solve() (Groups, Found) {
	if g.N < 1 || g.T < 1 || g.N%g.T != 0 || g.Class != nil && len(g.Class) != g.N {
		panic(fmt.Sprintf("kvmerge: %d heads of %d classes in groups of %d", g.N, len(g.Class), g.T))
	}
	if g.T == 1 {
		return Contiguous(g.N, 1), Found{Exact: true}
	}
	c := &groupCosts{of: g.Cost, par: g.Par, known: map[string]float64{}}
	switch {
	case g.T == g.N:
		return g.found(c, Contiguous(g.N, g.N), true)
	case g.T == 2:
		return g.found(c, g.matched(c, singles(g.N)), true)
	case g.N <= maxGroupHeads && combinations(g.N, g.T) <= maxGroupSets:
		return g.found(c, g.exact(c), true)
	}
	return g.found(c, g.search(c), false)
}

// found brings groups into canonical order and adds up their costs.
func (g Grouping) found(c *groupCosts, groups Groups, exact bool) (Groups, Found) {
	groups = canonical(groups)
	c.learn(groups)
	f := Found{Exact: exact}
	for _, members := range groups {
		f.Cost += c.at(members)
		if g.mixed(members) {
			f.Mixed++
		}
	}
	return groups, f
}

// mixed reports whether heads are of more than one class.
func (g Grouping) mixed(members []int) bool {
	if g.Class == nil {
		return false
	}
	for _, h := range members {
		if g.Class[h] != g.Class[members[0]] {
			return true
		}
	}
	return false
}

// canonical returns a copy of groups: members ascending, groups in the order of their first members.
func canonical(groups Groups) Groups {
	out := make(Groups, len(groups))
	for i, members := range groups {
		out[i] = slices.Sorted(slices.Values(members))
	}
	slices.SortFunc(out, func(a, b []int) int { return a[0] - b[0] })
	return out
}

// singles returns n sets of one head.
func singles(n int) Groups { return Contiguous(n, 1) }

// combinations is the number of t-subsets of n, for n of at most maxGroupHeads.
func combinations(n, t int) int {
	out := 1
	for i := range t {
		out = out * (n - i) / (i + 1)
	}
	return out
}
