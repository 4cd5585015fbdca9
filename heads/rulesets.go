package heads

import (
	"math"
	"slices"
)

// ruleSets finds the set of at most k rules under which the heads of a layer are cheapest together. It enumerates the sets in the order of
// their rules' own prices and leaves out those that cannot be better than the best so far. Scratch: 2·R·w floats.
type ruleSets struct {
	tries int // sets that were compared in this layer
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

// maxTries bounds the sets compared in one layer: all triples of 48 rules are 17296. Beyond it, the best set so far is used and the
// bound is that of any number of rules.
const maxTries = 50000

func newRuleSets() *ruleSets { return &ruleSets{} }

// best returns the best set, ascending, and a lower bound of its price: v holds the prices [rule][head] of w heads. warm is a set to
// start from, or nil.
func (s *ruleSets) best(v []float64, w int, rules []int, k int, warm []int) ([]int, float64) {
	free, value := unlimited(v, w, rules)
	if len(free) <= k {
		return free, value
	}
	s.v, s.w, s.k, s.tries = v, w, k, 0
	s.order(rules)
	s.top, s.found = math.Inf(1), nil
	if warm != nil {
		s.top, s.found = price(v, w, warm), warm
	}
	s.set = s.set[:0]
	s.extend(0, nil)
	set := slices.Clone(s.found)
	slices.Sort(set)
	if s.tries < maxTries {
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
	slices.SortStableFunc(s.rules, func(a, b int) int {
		switch {
		case own[a] < own[b]:
			return -1
		case own[a] > own[b]:
			return 1
		}
		return a - b
	})
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
	for i := from; i < len(s.rules) && s.tries < maxTries; i++ {
		if s.least(cur, i) >= s.top {
			return // nor can any later rule help: their prices are in the least
		}
		col := s.v[s.rules[i]*w : (s.rules[i]+1)*w]
		s.tries++
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
