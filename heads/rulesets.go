package heads

import (
	"math"
	"slices"
)

// ruleSets finds the set of at most k rules under which the heads of a layer are cheapest together. It enumerates the sets in the order of
// their rules' own prices and leaves out those that cannot be better than the best so far. Scratch: 2·R·w floats.
type ruleSets struct {
	tries int // sets that may still be compared in this layer
	v     []float64
	w, k  int
	rules []int // by own price
	later []float64
	tail  []float64
	cur   [][]float64

	top   float64
	set   []int // places in rules
	found []int
}

// The most sets that are compared in one layer for up to three rules, which all sets of up to three of 48 rules are below (18472), and for
// more. Beyond it, the best set so far is used and the bound is that of any number of rules.
const (
	maxTries     = 20000
	maxTriesMany = 4000
)

func newRuleSets() *ruleSets { return &ruleSets{} }

// best returns the best set, ascending, and a lower bound of its price: v holds the prices [rule][head] of w heads. warm is a set to
// start from, or nil.
func (s *ruleSets) best(v []float64, w int, rules []int, k int, warm []int) ([]int, float64) {
	free, value := unlimited(v, w, rules)
	if len(free) <= k {
		return free, value
	}
	s.v, s.w, s.k, s.tries = v, w, k, maxTries
	if k > 3 {
		s.tries = maxTriesMany
	}
	s.order(rules)
	s.top, s.found = math.Inf(1), nil
	if warm != nil {
		s.top, s.found = price(v, w, warm), warm
	}
	if k > 2 {
		s.exchange()
	}
	s.set = s.set[:0]
	s.extend(0, nil)
	set := slices.Clone(s.found)
	slices.Sort(set)
	set = slices.Compact(set)
	if s.tries > 0 {
		value = s.top
	}
	return set, value
}

// unlimited returns the rules that heads take where nothing limits their number, ascending, and the price.
func unlimited(v []float64, w int, rules []int) (set []int, value float64) {
	for h := range w {
		at := rules[0]
		for _, r := range rules[1:] {
			if v[r*w+h] < v[at*w+h] {
				at = r
			}
		}
		value += v[at*w+h]
		if !slices.Contains(set, at) {
			set = append(set, at)
		}
	}
	slices.Sort(set)
	return set, value
}

// price is what the heads of a layer cost under the rules of a set.
func price(v []float64, w int, set []int) float64 {
	var sum float64
	for h := range w {
		least := math.Inf(1)
		for _, r := range set {
			least = math.Min(least, v[r*w+h])
		}
		sum += least
	}
	return sum
}

// order sorts the rules by what they cost when used alone, and finds for each place and head the least price of this rule and all later
// ones: later[i·w+h], with its sum over heads in tail[i].
func (s *ruleSets) order(rules []int) {
	w := s.w
	s.rules = append(s.rules[:0], rules...)
	own := make([]float64, slices.Max(rules)+1)
	for _, r := range rules {
		for _, x := range s.v[r*w : (r+1)*w] {
			own[r] += x
		}
	}
	slices.SortStableFunc(s.rules, func(a, b int) int { return compare(own[a], own[b]) })
	n := len(rules)
	s.later = slices.Grow(s.later[:0], n*w)[:n*w]
	s.tail = slices.Grow(s.tail[:0], n)[:n]
	for i := n - 1; i >= 0; i-- {
		col := s.v[s.rules[i]*w : (s.rules[i]+1)*w]
		row := s.later[i*w : (i+1)*w]
		copy(row, col)
		s.tail[i] = 0
		for h := range row {
			if i+1 < n && s.later[(i+1)*w+h] < row[h] {
				row[h] = s.later[(i+1)*w+h]
			}
			s.tail[i] += row[h]
		}
	}
	for len(s.cur) < s.k {
		s.cur = append(s.cur, nil)
	}
}

// extend adds one more rule, at place from or later, to the set whose prices are cur (nil for the empty set).
func (s *ruleSets) extend(from int, cur []float64) {
	w, depth := s.w, len(s.set)
	last := depth == s.k-1
	next := slices.Grow(s.cur[depth][:0], w)[:w]
	s.cur[depth] = next
	for i := from; i < len(s.rules) && s.tries > 0; i++ {
		// Where the least price of all rules from here on is no better, none of them helps. It takes as long as a set of the last
		// level, which therefore looks at it less often.
		if (!last || (i-from)%8 == 0) && s.least(cur, i) >= s.top {
			return
		}
		col := s.v[s.rules[i]*w : (s.rules[i]+1)*w]
		s.tries--
		sum := 0.0
		if last {
			sum = lesser(cur, col)
		} else {
			for h, x := range col {
				if cur != nil && cur[h] < x {
					x = cur[h]
				}
				next[h] = x
				sum += x
			}
		}
		s.set = append(s.set, i)
		if sum < s.top {
			s.top, s.found = sum, s.found[:0:0]
			for _, at := range s.set {
				s.found = append(s.found, s.rules[at])
			}
		}
		if !last {
			s.extend(i+1, next)
		}
		s.set = s.set[:depth]
	}
}

// exchange fills the best set up to k rules and then exchanges one of them at a time, as long as that makes it cheaper.
func (s *ruleSets) exchange() {
	set := slices.Clone(s.found)
	for len(set) < s.k {
		set = append(set, s.rules[len(set)]) // its place is what counts: it is exchanged at once
	}
	top := price(s.v, s.w, set)
	for improved := true; improved; {
		improved = false
		for i := range set {
			rest := s.without(set, i)
			for _, r := range s.rules {
				if sum := lesser(rest, s.v[r*s.w:(r+1)*s.w]); sum < top {
					top, set[i], improved = sum, r, true
				}
			}
		}
	}
	if top < s.top {
		s.top, s.found = top, set
	}
}

// without returns the prices of the heads under all rules of a set but one.
func (s *ruleSets) without(set []int, leave int) []float64 {
	rest := make([]float64, s.w)
	for h := range rest {
		rest[h] = math.Inf(1)
	}
	for i, r := range set {
		if i == leave {
			continue
		}
		for h, x := range s.v[r*s.w : (r+1)*s.w] {
			rest[h] = math.Min(rest[h], x)
		}
	}
	return rest
}

// least is a lower bound of the set with any rules at place i or later.
func (s *ruleSets) least(cur []float64, i int) float64 {
	if cur == nil {
		return s.tail[i]
	}
	return lesser(cur, s.later[i*s.w:(i+1)*s.w])
}

// lesser sums the lesser of two prices of each head; cur nil stands for prices above all.
func lesser(cur, col []float64) float64 {
	if cur == nil {
		cur = col
	}
	var sum float64
	for h, x := range col {
		if cur[h] < x {
			x = cur[h]
		}
		sum += x
	}
	return sum
}
