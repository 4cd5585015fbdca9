package vib

import (
	"math"

	"modelpress/prune"
)

// budget is what the units cost of which log α leaves a soft part, and the derivative of the saved share by each log α.
type budget struct {
	saved  float64   // 1 - cost/cost of the whole model
	target float64   // what it is to be by now
	lo     int       // unit of the first slope
	slopes []float64 // of the units that it is about
}

// expected are the numbers of units that stay, of parts of units.
func (u *units) expected(part []float64) prune.Expected {
	e := prune.Expected{Hidden: sum(hiddenOf(u, part)), Layers: make([]prune.ExpectedLayer, len(u.layers))}
	for i, l := range u.layers {
		e.Layers[i] = prune.ExpectedLayer{Layer: part[l.gate], Heads: sum(headsOf(l, part)), FFN: sum(channelsOf(l, part))}
	}
	return e
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// spread writes the derivative by each unit, from those by numbers of units.
func (u *units) spread(dst []float64, by prune.Expected) {
	fill(hiddenOf(u, dst), by.Hidden)
	for i, l := range u.layers {
		dst[l.gate] = by.Layers[i].Layer
		fill(headsOf(l, dst), by.Layers[i].Heads)
		fill(channelsOf(l, dst), by.Layers[i].FFN)
	}
}

func fill(v []float64, x float64) {
	for i := range v {
		v[i] = x
	}
}

// spend computes the budget of a step: with keep = sigmoid(-beta·log α), the derivative of keep by log α is
// -beta·keep·(1-keep).
func (m *Masks) spend(step int) budget {
	beta := m.opt.beta(step)
	keep := m.soft(beta)
	cost := m.opt.Target.Soft(prune.Expect(m.arch, m.opt.Target.Length, m.u.expected(keep)))
	b := budget{saved: 1 - cost.Value/m.full, target: m.opt.target(step), slopes: make([]float64, m.u.n)}
	m.u.spread(b.slopes, cost.Grad)
	for i, k := range keep {
		b.slopes[i] *= float64(beta*float64(k*(1-k))) / m.full
	}
	return b
}

// multipliers are those of Lagrange, λ1 and λ2, of the constraint saved = target in the loss λ1·(s-t) + λ2·(s-t)² (VTrans,
// arXiv:2406.05276), with the moments of their optimizer: they ascend while all else descends.
type multipliers []float32

// newMultipliers returns those of some constraints, six values each, all zero.
func newMultipliers(n int) multipliers { return make(multipliers, 6*n) }

// of returns those of a constraint.
func (l multipliers) of(i int) multipliers { return l[6*i : 6*i+6] }

// loss is what the constraint adds to the objective, and its derivative by s.
func (l multipliers) loss(miss float64) (value, slope float64) {
	one, two := float64(l[0]), float64(l[1])
	return float64(one*miss) + float64(two*float64(miss*miss)), one + float64(2*float64(two*miss))
}

// ascend moves the multipliers along their gradients, s-t and (s-t)², by Adam.
func (l multipliers) ascend(miss, rate float64, step int) {
	n := float64(step + 1)
	for i, g := range []float64{miss, float64(miss * miss)} {
		m := float64(dualBeta1*float64(l[2+i])) + float64((1-dualBeta1)*g)
		v := float64(dualBeta2*float64(l[4+i])) + float64((1-dualBeta2)*float64(g*g))
		l[2+i], l[4+i] = float32(m), float32(v)
		m, v = m/(1-math.Pow(dualBeta1, n)), v/(1-math.Pow(dualBeta2, n))
		l[i] = float32(float64(l[i]) + float64(rate*m)/(math.Sqrt(v)+tiny))
	}
}

const dualBeta1, dualBeta2 = 0.9, 0.999
