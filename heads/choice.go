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

// moves returns every move in a layer that leaves it with at most k rules: heads ascending, then what all heads of one rule do; rules
// ascending. They hold until the layer's own rules change.
func (p *program) moves(c *choice, lambda []float64, l int) []move {
	use, distinct := make([]int, p.R), 0
	for _, r := range c.rule[p.first[l]:p.first[l+1]] {
		if use[r]++; use[r] == 1 {
			distinct++
		}
	}
	var list []move
	for h := p.first[l]; h < p.first[l+1]; h++ {
		from := c.rule[h]
		for _, to := range p.rules[l] {
			if to == from || use[to] == 0 && distinct == p.k && use[from] > 1 {
				continue
			}
			list = append(list, move{layer: l, head: h, from: from, to: to, opens: use[to] == 0})
		}
	}
	for from, n := range use {
		if n < 2 || p.k == p.R { // with any number of rules, single heads reach everything
			continue
		}
		for _, to := range p.rules[l] {
			if to != from {
				list = append(list, move{layer: l, head: -1, from: from, to: to, opens: use[to] == 0})
			}
		}
	}
	totals := make([]float64, len(list)*len(p.rows))
	for i := range list {
		m := &list[i]
		m.total = totals[i*len(p.rows) : (i+1)*len(p.rows)]
		lo, hi := m.span(p)
		p.weigh(m, lo, hi, c, lambda)
	}
	return list
}

// span is the range of heads that a move looks at.
func (m *move) span(p *program) (lo, hi int) {
	if m.head < 0 {
		return p.first[m.layer], p.first[m.layer+1]
	}
	return m.head, m.head + 1
}

// weigh sums what a move changes over the heads lo to hi that have its rule.
func (p *program) weigh(m *move, lo, hi int, c *choice, lambda []float64) {
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
	lo, hi := m.span(p)
	for h := lo; h < hi; h++ {
		if c.rule[h] == m.from {
			c.rule[h] = m.to
		}
	}
	p.sum(c)
}
