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
const poolSize = 3

// relax maximises the bound by a subgradient method: Polyak's step towards the best loss known, deflected as Camerini, Fratta
// and Maffioli (1975) do, halved where ten steps brought nothing.
func (p *program) relax(iterations int) *dual {
	d := &dual{p: p, lambda: make([]float64, len(p.rows)), bound: math.Inf(-1), v: make([]float64, len(p.f)), sets: newRuleSets(),
		warm: make([][]int, len(p.rules))}
	lambda := make([]float64, len(p.rows))
	dir := make([]float64, len(p.rows))
	theta, since := 1.0, 0
	most := p.mostLoss()
	for it := range iterations {
		value, c := d.price(lambda)
		bound := value - p.slack(lambda)
		if bound > d.bound {
			since = 0
			d.bound = bound
			copy(d.lambda, lambda)
		} else if since++; since == 10 {
			theta, since = theta/2, 0
			copy(lambda, d.lambda)
			for i := range dir {
				dir[i] = 0
			}
			value, c = d.price(lambda)
		}
		if d.infeasible = bound > most; d.infeasible {
			d.near(c)
			break
		}
		if it%10 == 0 || it == iterations-1 {
			d.offer(c, lambda)
		}
		target := most
		if len(d.pool) > 0 {
			target = d.pool[0].loss
		}
		if !p.step(lambda, dir, c, theta*math.Max(target-value, 0)) {
			break
		}
	}
	return d
}

// step moves the multipliers along the deflected subgradient of a choice. It reports false where that is zero: the bound is
// the best there is.
func (p *program) step(lambda, dir []float64, c *choice, gain float64) bool {
	g := make([]float64, len(p.rows))
	var along, dd float64
	for i := range g {
		g[i] = (c.total[i] - p.rows[i].b) * p.rows[i].inv
		if lambda[i] <= 0 && g[i] < 0 {
			g[i] = 0
		}
		along += float64(g[i] * dir[i])
		dd += float64(dir[i] * dir[i])
	}
	deflect := 0.0
	if along < 0 {
		deflect = -1.5 * along / dd
	}
	var norm float64
	for i := range dir {
		dir[i] = g[i] + float64(deflect*dir[i])
		norm += float64(dir[i] * dir[i])
	}
	if norm == 0 || gain == 0 {
		return false
	}
	for i := range lambda {
		lambda[i] = math.Max(0, lambda[i]+float64(gain/norm*dir[i]))
	}
	return true
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
