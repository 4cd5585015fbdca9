package heads

import (
	"math"
	"slices"
)

// branch is a depth-first search over the heads in order. It cuts off where the relaxation, with its best multipliers, cannot get below the
// best loss, or where some limit cannot be kept. It closes small instances and finds choices where repair found none.
type branch struct {
	p     *program
	d     *dual
	nodes int // left

	byPrice [][]int     // [head]: rules, cheapest first
	after   []float64   // [head]: lower bound of the prices of the later heads of the layer and of all later layers
	rowLeft [][]float64 // [row][head]: least sum over the heads after
	offset  float64     // Σ λ·b
	slack   float64

	c     choice
	total [][]float64 // [head]: Σ a of each row over the heads before
	use   []int
	best  *choice
}

// search returns the best of start (nil where there is none yet) and what it finds, and whether it ended within its nodes.
func (b *branch) search(start *choice) (*choice, bool) {
	p := b.p
	b.best = start
	b.slack = p.slack(b.d.lambda)
	b.prepare()
	b.c.rule = make([]int, len(p.layer))
	b.total = make([][]float64, len(p.layer)+1)
	for h := range b.total {
		b.total[h] = make([]float64, len(p.rows))
	}
	b.use = make([]int, p.R)
	b.visit(0, 0, 0)
	return b.best, b.nodes > 0
}

func (b *branch) prepare() {
	p, d := b.p, b.d
	d.fill(d.lambda)
	n := len(p.layer)
	b.byPrice, b.after = make([][]int, n), make([]float64, n)
	rule := make([]int, n)
	later := 0.0
	for l := len(p.rules) - 1; l >= 0; l-- {
		inside := 0.0
		for h := p.first[l+1] - 1; h >= p.first[l]; h-- {
			b.after[h] = later + inside
			order := slices.Clone(p.rules[l])
			slices.SortStableFunc(order, func(x, y int) int { return compare(d.v[p.at(h, x)], d.v[p.at(h, y)]) })
			b.byPrice[h] = order
			inside += d.v[p.at(h, order[0])]
		}
		later += d.priceLayer(l, rule)
	}
	for i := range p.rows {
		row := &p.rows[i]
		b.offset += float64(d.lambda[i] * row.inv * row.b)
		left := make([]float64, n)
		for h := n - 2; h >= 0; h-- {
			least := math.Inf(1)
			for _, r := range p.rules[p.layer[h+1]] {
				least = math.Min(least, row.a[p.at(h+1, r)])
			}
			left[h] = left[h+1] + least
		}
		b.rowLeft = append(b.rowLeft, left)
	}
}

// visit gives head h each of its rules. price is that of the heads before it, distinct the number of rules that its layer uses so far.
func (b *branch) visit(h int, price float64, distinct int) {
	p := b.p
	if h == len(p.layer) {
		c := &choice{rule: slices.Clone(b.c.rule)}
		p.sum(c)
		if p.violation(c.total) == 0 && (b.best == nil || c.loss < b.best.loss) {
			b.best = c
		}
		return
	}
	use := b.use
	if h == p.first[p.layer[h]] { // a new layer counts its own
		b.use, distinct = make([]int, p.R), 0
	}
	for _, r := range b.byPrice[h] {
		if b.nodes <= 0 {
			break
		}
		b.nodes--
		at := p.at(h, r)
		now := price + b.d.v[at]
		if b.best != nil && now+b.after[h]-b.offset > b.best.loss-b.slack {
			break // the rules after it cost no less
		}
		if b.use[r] == 0 && distinct == p.k || !b.take(h, at) {
			continue
		}
		b.use[r]++
		b.c.rule[h] = r
		opened := 0
		if b.use[r] == 1 {
			opened = 1
		}
		b.visit(h+1, now, distinct+opened)
		b.use[r]--
	}
	b.use = use
}

// take adds a head's use to the totals. It reports false where some limit cannot be kept any more.
func (b *branch) take(h, at int) bool {
	const forgiven = 1e-12 // of a row's size, for sums of losses that are added in another order; the end checks exactly
	for i := range b.p.rows {
		row := &b.p.rows[i]
		sum := b.total[h][i] + row.a[at]
		if sum+b.rowLeft[i][h] > row.b+float64(forgiven*row.mag) {
			return false
		}
		b.total[h+1][i] = sum
	}
	return true
}
