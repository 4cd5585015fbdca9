package vib

import "modelpress/prune"

// budget is one constraint: of the units of which log α leaves a soft part, the share that is saved, and its derivative by each log α.
type budget struct {
	saved  float64   // 1 - cost/cost of all units that it is about
	target float64   // what it is to be by now
	weight float64   // of the constraint in the objective
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

// expect returns the cost of the soft parts of the units, and the share of the whole model's that it saves.
func (m *Masks) expect(keep []float64) (prune.Soft, float64) {
	cost := m.opt.Target.Soft(prune.Expect(m.arch, m.opt.Target.Length, m.u.expected(keep)))
	return cost, 1 - cost.Value/m.full
}

// spend computes the budget of a step: with keep = sigmoid(-beta·log α), the derivative of keep by log α is
// -beta·keep·(1-keep).
func (m *Masks) spend(step int) budget {
	beta := m.opt.Beta
	keep := m.soft(beta)
	cost, saved := m.expect(keep)
	b := budget{saved: saved, target: m.opt.target(step, m.start), weight: 1, slopes: make([]float64, m.u.n)}
	m.u.spread(b.slopes, cost.Grad)
	for i, k := range keep {
		b.slopes[i] *= float64(beta*float64(k*(1-k))) / m.full
	}
	return b
}

// multipliers are λ1 and λ2 of Lagrange for the constraint s = t, saved is target, in the loss λ1·(s-t) + λ2·(s-t)² (VTrans,
// arXiv:2406.05276). They ascend along their gradients s-t and (s-t)² while all else descends. There, both start at 0 and ascend by
// Adam, 0.1 a step or so whatever the gradient, for thousands of steps; within a few hundred that comes too late and swings past
// the target. Plain ascent from a λ2 above 0 is a controller with a proportional and an integral part.
type multipliers []float32

// newMultipliers returns those of some constraints, two each, λ2 above 0.
func newMultipliers(n int, penalty float64) multipliers {
	out := make(multipliers, 2*n)
	for i := range n {
		out[2*i+1] = float32(penalty)
	}
	return out
}

// of returns those of a constraint.
func (l multipliers) of(i int) multipliers { return l[2*i : 2*i+2] }

// loss is what the constraint adds to the objective, and its derivative by s.
func (l multipliers) loss(miss float64) (value, slope float64) {
	one, two := float64(l[0]), float64(l[1])
	return float64(one*miss) + float64(two*float64(miss*miss)), one + float64(2*float64(two*miss))
}

func (l multipliers) ascend(miss float64, r Rates) {
	l[0] += float32(r.Dual1 * miss)
	l[1] += float32(r.Dual2 * float64(miss*miss))
}
