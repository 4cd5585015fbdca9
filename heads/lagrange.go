package heads

import "math"

// dual is the state of the Lagrangian relaxation: min over choices of f + Σ λ·(a·x − b)·inv, for λ ≥ 0, is a lower bound of the
// knapsack's optimum.
type dual struct {
	p          *program
	lambda     []float64 // the multipliers of the best bound
	bound      float64   // the best bound, less what rounding may have added
	infeasible bool      // the bound exceeds every possible loss: nothing keeps the limits
	pool       []*choice // choices that keep the limits, best first, few
	nearest    *choice   // the choice that misses the limits by least

	v    []float64 // priced table
	sets *ruleSets
	warm [][]int // [layer]: the rules that were best last time
}

// poolSize is how many choices the relaxation hands over to be improved.
const poolSize = 4

// relax maximises the bound over the multipliers. On the way it repairs some of the choices that attain the bound, and at the end those
// that the best multipliers hang between, and blends of them.
func (p *program) relax(iterations int) *dual {
	d := &dual{p: p, lambda: make([]float64, len(p.rows)), bound: math.Inf(-1), v: make([]float64, len(p.f)), sets: newRuleSets(),
		warm: make([][]int, len(p.rules))}
	lambda := make([]float64, len(p.rows))
	most := p.mostLoss()
	b := &bundle{center: make([]float64, len(p.rows))}
	gain := 0.0
	for it := range iterations {
		value, c := d.price(lambda)
		if bound := value - p.slack(lambda); bound > d.bound {
			d.bound = bound
			copy(d.lambda, lambda)
			if d.infeasible = bound > most; d.infeasible {
				d.near(c)
				return d
			}
		}
		x := p.cutOf(c)
		b.add(x)
		if it%10 == 0 {
			d.offer(c, lambda)
		}
		if it == 0 {
			b.value, b.t = x.at(lambda), d.firstStep(x, most)
		} else {
			b.learn(lambda, x.at(lambda), gain)
		}
		gain = b.step(lambda)
		if gain <= float64(1e-8*math.Abs(b.value)) || len(d.pool) > 0 && d.bound >= d.pool[0].loss {
			break
		}
	}
	d.offer(p.blend(b.cuts, false), d.lambda)
	d.offer(p.blend(b.cuts, true), d.lambda)
	for _, x := range b.cuts {
		if x.alpha > 1e-9 {
			d.offer(x.c, d.lambda)
		}
	}
	return d
}

// firstStep is a length of steps that would take a third of the way from the first bound to the best loss known.
func (d *dual) firstStep(x *cut, most float64) float64 {
	if len(d.pool) > 0 {
		most = d.pool[0].loss
	}
	var norm float64
	for _, s := range x.slope {
		norm += float64(math.Max(0, s) * math.Max(0, s))
	}
	if norm == 0 {
		return 1
	}
	return math.Max(most-x.c.loss, 1e-9*d.p.fMag) / 3 / norm
}

// mostLoss is more than any choice can lose.
func (p *program) mostLoss() float64 {
	var sum float64
	for h := range p.layer {
		most := math.Inf(-1)
		for r := range p.R {
			most = math.Max(most, p.f[p.at(h, r)])
		}
		sum += most
	}
	return sum + float64(1e-9*p.fMag)
}

// slack bounds the rounding errors of a bound and of a loss: sums of n terms of the given magnitudes, each product and sum off by
// at most 2⁻⁵³ of its size.
func (p *program) slack(lambda []float64) float64 {
	mag := p.fMag
	for i, row := range p.rows {
		mag += float64(lambda[i] * row.inv * row.mag)
	}
	terms := float64(4*len(p.layer) + 8*len(p.rows) + 64)
	return terms * 0x1p-53 * mag
}

// price returns the minimum of the relaxation at lambda, and a choice that attains it (or nearly, where a layer has too many sets of
// rules to enumerate; the minimum is then one over any number of rules, which is lower).
func (d *dual) price(lambda []float64) (float64, *choice) {
	p := d.p
	d.fill(lambda)
	c := &choice{rule: make([]int, len(p.layer))}
	var value float64
	for l := range p.rules {
		value += d.priceLayer(l, c.rule)
	}
	for i, row := range p.rows {
		value -= float64(lambda[i] * row.inv * row.b)
	}
	p.sum(c)
	return value, c
}

// fill prices every rule of every head.
func (d *dual) fill(lambda []float64) {
	copy(d.v, d.p.f)
	for i := range d.p.rows {
		row := &d.p.rows[i]
		if w := lambda[i] * row.inv; w != 0 {
			for j, a := range row.a {
				d.v[j] += float64(w * a)
			}
		}
	}
}

// priceLayer writes the cheapest rules of a layer's heads, at most k distinct ones, and returns a lower bound of their price.
func (d *dual) priceLayer(l int, rule []int) float64 {
	p := d.p
	lo, hi := p.first[l], p.first[l+1]
	if lo == hi {
		return 0
	}
	w := hi - lo
	v := d.v[lo*p.R : hi*p.R]
	set, value := d.sets.best(v, w, p.rules[l], p.k, d.warm[l])
	d.warm[l] = set
	assign(v, w, set, rule[lo:hi])
	return value
}

// assign gives each head the cheapest rule of an ascending set, the first among equals.
func assign(v []float64, w int, set, rule []int) {
	for h := range rule {
		rule[h] = set[0]
		for _, r := range set[1:] {
			if v[r*w+h] < v[rule[h]*w+h] {
				rule[h] = r
			}
		}
	}
}

// offer repairs a choice and keeps it where it is among the best.
func (d *dual) offer(c *choice, lambda []float64) {
	p := d.p
	c = p.repair(c, lambda)
	d.near(c)
	if p.violation(c.total) > 0 {
		return
	}
	at := len(d.pool)
	for i, o := range d.pool {
		if c.loss == o.loss {
			return
		}
		if c.loss < o.loss {
			at = i
			break
		}
	}
	d.pool = append(d.pool[:at], append([]*choice{c}, d.pool[at:]...)...)
	d.pool = d.pool[:min(len(d.pool), poolSize)]
}

func (d *dual) near(c *choice) {
	if d.nearest == nil || d.p.violation(c.total) < d.p.violation(d.nearest.total) {
		d.nearest = c
	}
}
