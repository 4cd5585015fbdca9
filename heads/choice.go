package heads

import "math"

// choice is one rule for each head.
type choice struct {
	rule  []int     // [head]
	total []float64 // Σ a of each row
	loss  float64   // Σ f
}

// sum fills in the sums, head by head, so that equal choices have equal sums whatever led to them.
func (p *program) sum(c *choice) {
	c.total = make([]float64, len(p.rows))
	c.loss = 0
	for h, r := range c.rule {
		i := p.at(h, r)
		c.loss += p.f[i]
		for j := range p.rows {
			c.total[j] += p.rows[j].a[i]
		}
	}
}

// violation is by how much a choice misses the limits, 0 where it keeps them.
func (p *program) violation(total []float64) float64 {
	var sum float64
	for i := range p.rows {
		sum += math.Max(0, (total[i]-p.rows[i].b)*p.rows[i].inv)
	}
	return sum
}

func (p *program) clone(c *choice) *choice {
	return &choice{rule: append([]int(nil), c.rule...), total: append([]float64(nil), c.total...), loss: c.loss}
}

// move exchanges a rule: that of one head, or where head is -1 that of all heads of the layer that use it.
type move struct {
	layer, head int
	from, to    int
	loss        float64   // what it adds to the loss
	price       float64   // and to the loss with priced limits
	total       []float64 // and to each row
	opens       bool      // `to` is not used in the layer yet
}

// uses counts the heads of each layer under each rule, and the distinct rules.
func (p *program) uses(c *choice) (use [][]int, distinct []int) {
	use, distinct = make([][]int, len(p.rules)), make([]int, len(p.rules))
	for l := range use {
		use[l] = make([]int, p.R)
		for _, r := range c.rule[p.first[l]:p.first[l+1]] {
			if use[l][r]++; use[l][r] == 1 {
				distinct[l]++
			}
		}
	}
	return use, distinct
}

// moves calls try with every move that leaves each layer with at most k rules, layer by layer. try
// must not keep the move or change c.
func (p *program) moves(c *choice, lambda []float64, try func(*move)) {
	use, distinct := p.uses(c)
	m := move{total: make([]float64, len(p.rows))}
	for l := range p.rules {
		for h := p.first[l]; h < p.first[l+1]; h++ {
			from := c.rule[h]
			for _, to := range p.rules[l] {
				if to == from || use[l][to] == 0 && distinct[l] == p.k && use[l][from] > 1 {
					continue
				}
				m.layer, m.head, m.from, m.to, m.opens = l, h, from, to, use[l][to] == 0
				p.weigh(&m, h, h+1, c, lambda)
				try(&m)
			}
		}
		if p.k == p.R {
			continue // single heads reach everything
		}
		for from, n := range use[l] {
			if n < 2 {
				continue
			}
			for _, to := range p.rules[l] {
				if to != from {
					m.layer, m.head, m.from, m.to, m.opens = l, -1, from, to, use[l][to] == 0
					p.weigh(&m, p.first[l], p.first[l+1], c, lambda)
					try(&m)
				}
			}
		}
	}
}

// weigh sums what a move changes over the heads lo to hi that have its rule.
func (p *program) weigh(m *move, lo, hi int, c *choice, lambda []float64) {
	m.loss = 0
	clear(m.total)
	first, w := p.first[m.layer], p.first[m.layer+1]-p.first[m.layer]
	from, to := first*p.R+m.from*w-first, first*p.R+m.to*w-first
	for h := lo; h < hi; h++ {
		if c.rule[h] != m.from {
			continue
		}
		m.loss += p.f[to+h] - p.f[from+h]
		for n := range p.rows {
			a := p.rows[n].a
			m.total[n] += a[to+h] - a[from+h]
		}
	}
	m.price = m.loss
	for n, d := range m.total {
		m.price += float64(lambda[n] * p.rows[n].inv * d)
	}
}

// apply carries a move out and sums anew.
func (p *program) apply(c *choice, m *move) {
	lo, hi := m.head, m.head+1
	if m.head < 0 {
		lo, hi = p.first[m.layer], p.first[m.layer+1]
	}
	for h := lo; h < hi; h++ {
		if c.rule[h] == m.from {
			c.rule[h] = m.to
		}
	}
	p.sum(c)
}

// copyOf is a move that may be kept.
func (m *move) copyOf() *move {
	n := *m
	n.total = append([]float64(nil), m.total...)
	return &n
}
