package heads

import (
	"math"
	"slices"
)

// repair turns a choice into one that keeps the limits, by moves that lose least for what they bring nearer to them. Every move
// lowers the violation, so that it ends; it may end without success. The choice itself is left as it is.
func (p *program) repair(c *choice, lambda []float64) *choice {
	c = p.clone(c)
	for v := p.violation(c.total); v > 0; {
		before := v
		for _, m := range p.remedies(c, lambda, v) {
			now := p.clone(c)
			p.apply(now, m)
			if after := p.violation(now.total); after < v {
				c, v = now, after
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

// remedies returns, cheapest first, the best move of each layer: those that lose no more than twice what the cheapest does for each unit
// of violation that they take away.
func (p *program) remedies(c *choice, lambda []float64, v float64) []*move {
	best := make([]*move, len(p.rules))
	rates := make([]float64, len(p.rules))
	cheapest := math.Inf(1)
	p.moves(c, lambda, func(m *move) {
		var after float64
		for i, t := range m.total {
			if over := (c.total[i] + t - p.rows[i].b) * p.rows[i].inv; over > 0 {
				after += over
			}
		}
		less := v - after
		if less <= float64(1e-12*v) {
			return
		}
		rate := math.Max(m.price, 0) / less
		if best[m.layer] == nil || rate < rates[m.layer] {
			best[m.layer], rates[m.layer] = m.copyOf(), rate
			cheapest = math.Min(cheapest, rate)
		}
	})
	var list []*move
	for l, m := range best {
		if m != nil && rates[l] <= 2*cheapest {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b *move) int { return compare(rates[a.layer], rates[b.layer]) })
	return list
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
