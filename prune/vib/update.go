package vib

import (
	"fmt"

	"modelpress/distill"
	"modelpress/internal/num"
)

// Moments of the optimizer of mu and log D.
const maskBeta1, maskBeta2 = 0.9, 0.99

// End adds the losses of the masks, which are the prior and the constraint, and moves mu, log D and the multipliers of the
// constraint; once settled, mu of what stays alone. It returns these losses and the norm of the gradient by mu and log D.
func (m *Masks) End(step int) (loss, norm float64, err error) {
	if step < 0 {
		return 0, 0, fmt.Errorf("vib: the end of step %d", step)
	}
	byMu, byLogD := m.gradients()
	if m.Settled() {
		return m.tune(byMu)
	}
	m.prior = m.priorLoss(byMu, byLogD)
	value := m.constraints(step, byMu, byLogD)
	mu, logD := m.rounded(byMu, m.free), m.rounded(byLogD, m.free)
	norm = distill.GradNorm([][]float32{mu, logD}, nil)
	scale, err := distill.ClipScale(norm, m.opt.Clip)
	if err != nil {
		return 0, 0, fmt.Errorf("vib: %w", err)
	}
	left := max(0, 1-float64(step)/float64(m.opt.Search+m.opt.Tune))
	m.move(m.mu, mu, 0, m.opt.Rates.Mu*left, scale, step)
	m.move(m.logD, logD, 2, m.opt.Rates.LogD*left, scale, step)
	for i, b := range m.budgets {
		m.dual.of(i).ascend(b.saved-b.target, m.opt.Rates)
	}
	return m.prior + value, norm, nil
}

// constraints adds the gradients of all constraints, and returns what they add to the objective.
func (m *Masks) constraints(step int, byMu, byLogD []float64) (sum float64) {
	m.budgets = []budget{m.spend(step)}
	m.budget = m.budgets[0]
	if m.parts != nil {
		m.budgets = m.spendGroups(step)
	}
	for i, b := range m.budgets {
		value, slope := m.dual.of(i).loss(b.saved - b.target)
		sum += float64(b.weight * value)
		m.constrain(b, b.weight*slope, byMu, byLogD)
	}
	return sum
}

// gradients are those of the objective by mu and by log D, over all windows: dz/dmu is 1, dz/dlog D is ½·eps·sigma.
func (m *Masks) gradients() (byMu, byLogD []float64) {
	byMu, byLogD = make([]float64, m.u.n), make([]float64, m.u.n)
	if m.quiet {
		m.still.split(&m.u)
		copy(byMu, m.still.grad)
		return byMu, byLogD
	}
	half := m.sigmas()
	for i := range half {
		half[i] /= 2
	}
	for _, d := range m.draws {
		d.split(&m.u)
		for i, g := range d.grad {
			byMu[i] += g
			byLogD[i] += float64(g * float64(float64(d.eps[i])*half[i]))
		}
	}
	return byMu, byLogD
}

// constrain adds the gradients of a constraint, whose derivative by the saved share is slope: the saved share depends on log α,
// whose derivatives are -2·mu/(mu²+1e-8) by mu and 1 by log D.
func (m *Masks) constrain(b budget, slope float64, byMu, byLogD []float64) {
	for u, s := range b.slopes {
		i := b.lo + u
		mu, d := float64(m.mu[i]), float64(slope*s)
		byMu[i] -= float64(2*float64(d*mu)) / (float64(mu*mu) + tiny)
		byLogD[i] += d
	}
}

// rounded are the gradients by the units that learn.
func (m *Masks) rounded(by []float64, learn []bool) []float32 {
	out := make([]float32, len(by))
	for i, g := range by {
		if learn[i] && m.kept[i] != 0 {
			out[i] = float32(g)
		}
	}
	return out
}

func (m *Masks) move(p, grad []float32, moments int, rate, scale float64, step int) {
	o := num.AdamWStep{LR: rate, Beta1: maskBeta1, Beta2: maskBeta2, Eps: tiny, GradScale: scale, Step: step + 1}
	num.AdamW(p, grad, m.moments[moments], m.moments[moments+1], o, nil)
}

// tune moves mu of what stays. Its steps are counted from the first after the search, whatever number they have in the run.
func (m *Masks) tune(byMu []float64) (loss, norm float64, err error) {
	mu := m.rounded(byMu, m.free)
	norm = distill.GradNorm([][]float32{mu}, nil)
	scale, err := distill.ClipScale(norm, m.opt.Clip)
	if err != nil {
		return 0, 0, fmt.Errorf("vib: %w", err)
	}
	step := int(m.phase[1])
	left := max(0, 1-float64(step)/float64(max(1, m.opt.Tune)))
	m.move(m.mu, mu, 0, m.opt.Rates.Tune*left, scale, step)
	m.phase[1]++
	return 0, norm, nil
}

// Vectors returns the state of the masks.
func (m *Masks) Vectors() []distill.Vector {
	return []distill.Vector{
		{Name: "mu", F32: m.mu}, {Name: "log_d", F32: m.logD}, {Name: "kept", F32: m.kept}, {Name: "searched", F32: m.searched},
		{Name: "mu_first", F32: m.moments[0]}, {Name: "mu_second", F32: m.moments[1]},
		{Name: "log_d_first", F32: m.moments[2]}, {Name: "log_d_second", F32: m.moments[3]},
		{Name: "multipliers", F32: m.dual}, {Name: "settled", F32: m.phase},
	}
}

// Report says how much is expected to be saved, how much was to be by now, and the multipliers of the constraint.
func (m *Masks) Report() []distill.Measure {
	if m.Settled() {
		return nil
	}
	return []distill.Measure{
		{Name: "saved", Value: m.budget.saved}, {Name: "target", Value: m.budget.target}, {Name: "prior", Value: m.prior},
		{Name: "lambda1", Value: float64(m.dual[0])}, {Name: "lambda2", Value: float64(m.dual[1])},
	}
}
