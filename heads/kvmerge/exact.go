package kvmerge

import (
	"math"
	"math/bits"
)

// exact returns the best groups by dynamic programming over sets of heads: of those that are left, the first is joined with any
// others. Sets are tried in lexicographic order, so that of equal groupings the smallest is found.
//
// Time: at most 2^N/T sets left by C(N-1, T-1) groups each.
func (g Grouping) exact(c *groupCosts) Groups {
	sets := subsets(g.N, g.T)
	w := g.weights(c, sets)
	masks := make([]uint32, len(sets))
	first := make([]int, g.N+1) // first[h]: where the sets of first member h begin
	for i, s := range sets {
		for _, h := range s {
			masks[i] |= 1 << h
		}
		first[s[0]+1] = i + 1
	}
	for h := range g.N { // the last T-1 heads are first in no set
		first[h+1] = max(first[h+1], first[h])
	}
	best := make([]int64, 1<<g.N) // least weight of each set that is left
	for left := uint32(1); left < 1<<g.N; left++ {
		if bits.OnesCount32(left)%g.T != 0 {
			continue
		}
		least := int64(math.MaxInt64)
		h := bits.TrailingZeros32(left)
		for i := first[h]; i < first[h+1]; i++ {
			if m := masks[i]; m&left == m {
				least = min(least, w[i]+best[left^m])
			}
		}
		best[left] = least
	}
	var out Groups
	for left := uint32(1)<<g.N - 1; left != 0; {
		i := first[bits.TrailingZeros32(left)]
		for masks[i]&left != masks[i] || w[i]+best[left^masks[i]] != best[left] {
			i++
		}
		out = append(out, sets[i])
		left ^= masks[i]
	}
	return out
}

// subsets returns the t-subsets of n heads in lexicographic order.
func subsets(n, t int) [][]int {
	var out [][]int
	s := make([]int, t)
	for i := range s {
		s[i] = i
	}
	for {
		out = append(out, append([]int(nil), s...))
		i := t - 1
		for i >= 0 && s[i] == n-t+i {
			i--
		}
		if i < 0 {
			return out
		}
		s[i]++
		for j := i + 1; j < t; j++ {
			s[j] = s[j-1] + 1
		}
	}
}
