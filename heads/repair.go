package heads

import "math"

// repair turns a choice into one that keeps the limits, by moves that lose least for what they bring nearer to them. Each move
// lowers the violation, so that it ends; it may end without success. The choice itself is left as it is.
func (p *program) repair(c *choice, lambda []float64) *choice {
	c = p.clone(c)
	after := make([]float64, len(p.rows))
	for v := p.violation(c.total); v > 0; {
		var best *move
		bestRate := math.Inf(1)
		p.moves(c, lambda, -1, func(m *move) {
			for i, t := range m.total {
				after[i] = c.total[i] + t
			}
			less := v - p.violation(after)
			if less <= float64(1e-12*v) {
				return
			}
			if rate := math.Max(m.price, 0) / less; rate < bestRate {
				best, bestRate = m.copyOf(), rate
			}
		})
		if best == nil {
			return c
		}
		p.apply(c, best)
		now := p.violation(c.total)
		if now >= v {
			return c // rounding stood against it
		}
		v = now
	}
	return c
}
