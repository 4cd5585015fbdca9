package kvmerge

import (
	"cmp"
	"slices"
)

// descent goes downhill by swaps of two heads at the true cost of groups.
type descent struct {
	Grouping
	costs   *groupCosts
	largest float64 // of the costs whose fraction costs are compared in
}

// Starts that are followed. On random layers of 16 to 64 heads, two end 0.1 % above the best end of all ten in the mean, and ask for a
// third to a half of the costs.
const descents = 2

// best returns the better end of the cheapest starts, the earliest of equals.
func (d descent) best(starts []Groups) Groups {
	slices.SortStableFunc(starts, func(a, b Groups) int { return cmp.Compare(d.total(a), d.total(b)) })
	starts = slices.CompactFunc(starts, sameGroups)
	var best Groups
	var least int64
	for _, s := range starts[:min(descents, len(starts))] {
		end := d.descend(s)
		if w := d.total(end); best == nil || w < least {
			best, least = end, w
		}
	}
	return best
}

// descend takes the best swap of one pair of groups after the other until none helps.
func (d descent) descend(start Groups) Groups {
	groups := canonical(start)
	d.costs.learn(groups)
	// A pair needs another look only after one of its groups has changed.
	changed := make([]int, len(groups)) // when
	looked := map[[2]int]int{}
	for now, quiet := 1, false; !quiet; {
		quiet = true
		for i := range groups {
			for j := i + 1; j < len(groups); j++ {
				if at, ok := looked[[2]int{i, j}]; ok && at >= max(changed[i], changed[j]) {
					continue
				}
				if a, b, ok := d.swapped(groups[i], groups[j]); ok {
					groups[i], groups[j] = a, b
					now++
					changed[i], changed[j] = now, now
					quiet = false
				} else {
					looked[[2]int{i, j}] = now
				}
			}
		}
	}
	return canonical(groups)
}

// swapped returns two groups after the swap that helps most, the first of equals, and false where none helps.
func (d descent) swapped(a, b []int) (na, nb []int, ok bool) {
	var sets [][]int
	mixed := d.mixed(a) && d.mixed(b)
	for i, x := range a {
		for j, y := range b {
			if d.swappable(x, y, mixed) {
				sets = append(sets, replaced(a, i, y), replaced(b, j, x))
			}
		}
	}
	d.costs.learn(sets)
	least := d.steps(a) + d.steps(b)
	for k := 0; k < len(sets); k += 2 {
		if w := d.steps(sets[k]) + d.steps(sets[k+1]); w < least {
			na, nb, least, ok = sets[k], sets[k+1], w, true
		}
	}
	return na, nb, ok
}

// replaced returns a group with its i-th member replaced, ascending.
func replaced(members []int, i, by int) []int {
	out := slices.Clone(members)
	out[i] = by
	slices.Sort(out)
	return out
}

func (d descent) steps(members []int) int64 { return steps(d.costs.at(members), d.largest) }

func (d descent) total(groups Groups) int64 {
	var sum int64
	for _, members := range groups {
		sum += d.steps(members)
	}
	return sum
}

func sameGroups(a, b Groups) bool {
	return slices.EqualFunc(a, b, func(x, y []int) bool { return slices.Equal(x, y) })
}
