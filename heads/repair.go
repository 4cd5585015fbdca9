package heads

import (
	"math"
	"slices"
)

// repair turns a choice into one that keeps the limits, by moves that lose least for what they bring nearer to them, and by pairs of moves where
// no single one does. Every step lowers the violation by some share of it, and one that is as small as rounding ends the
// repair, maybe without success. The choice itself is left
// as it is.
func (p *program) repair(c *choice, lambda []float64) *choice {
	c = p.clone(c)
	moves := make([][]move, len(p.rules))
	pairs := 0
	for v := p.violation(c.total); v > 0; {
		before := v
		list := p.remedies(c, lambda, moves, v)
		if len(list) == 0 && pairs < maxPairs {
			pairs++
			if a, b := p.pairRemedy(c, moves, v); a != nil {
				next := p.clone(c)
				p.apply(next, a)
				p.apply(next, b)
				if after := p.violation(next.total); after < v {
					c, v = next, after
					moves[a.layer], moves[b.layer] = nil, nil
				}
			}
		}
		for _, m := range list {
			next := p.clone(c)
			p.apply(next, m)
			if after := p.violation(next.total); after < v {
				c, v = next, after
				moves[m.layer] = nil
			}
			if v == 0 {
				break
			}
		}
		if v >= before {
			break
		}
	}
	return c
}

// leastRemedy is the share of the violation that a single move must take away.
const leastRemedy = 1e-3

// The steps of a repair that take two moves, and the moves that are paired: those that leave the least violation.
const (
	maxPairs  = 8
	maxPaired = 1000
)

// pairRemedy returns the two moves that together leave the least violation, nil where that is not less than v.
func (p *program) pairRemedy(c *choice, moves [][]move, v float64) (first, second *move) {
	type left struct {
		m *move
		v float64
	}
	var list []left
	for l := range moves {
		for i := range moves[l] {
			m := &moves[l][i]
			list = append(list, left{m, p.after(c, m)})
		}
	}
	slices.SortStableFunc(list, func(a, b left) int { return compare(a.v, b.v) })
	list = list[:min(len(list), maxPaired)]
	least := v - float64(1e-12*v)
	for i, a := range list {
		for _, b := range list[i+1:] {
			if !a.m.free(b.m) {
				continue
			}
			var after float64
			for n := range p.rows {
				row := &p.rows[n]
				if over := (c.total[n] + a.m.total[n] + b.m.total[n] - row.b) * row.inv; over > 0 {
					if after += over; after >= least {
						break
					}
				}
			}
			if after < least {
				first, second, least = a.m, b.m, after
			}
		}
	}
	return first, second
}

// remedies returns, cheapest first, the best move of each layer: those that lose no more than twice what the cheapest does for each unit
// of violation that they take away. moves keeps those of layers that have not changed.
func (p *program) remedies(c *choice, lambda []float64, moves [][]move, v float64) []*move {
	best := make([]*move, len(p.rules))
	rates := make([]float64, len(p.rules))
	cheapest := math.Inf(1)
	for l := range p.rules {
		if moves[l] == nil {
			moves[l] = p.moves(c, lambda, l)
		}
		for i := range moves[l] {
			m := &moves[l][i]
			less := v - p.after(c, m)
			if less <= float64(leastRemedy*v) {
				continue
			}
			if rate := math.Max(m.price, 0) / less; best[l] == nil || rate < rates[l] {
				best[l], rates[l] = m, rate
				cheapest = math.Min(cheapest, rate)
			}
		}
	}
	var list []*move
	for l, m := range best {
		if m != nil && rates[l] <= 2*cheapest {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b *move) int { return compare(rates[a.layer], rates[b.layer]) })
	return list
}

// after is the violation that a move leaves.
func (p *program) after(c *choice, m *move) (v float64) {
	for i, t := range m.total {
		if over := (c.total[i] + t - p.rows[i].b) * p.rows[i].inv; over > 0 {
			v += over
		}
	}
	return v
}

// compare orders numbers; equal ones stay where they are.
func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
