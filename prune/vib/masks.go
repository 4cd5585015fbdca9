package vib

import (
	"fmt"
	"math"

	"modelpress/distill"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/prune"
)

// Masks are learnt multipliers of a model's units; they are a [distill.Masks]. A new one searches: its units are noisy, and learn
// which of them the model can do without. [Masks.Settle] ends the search and says how many stay; from then on there is no noise, and
// only the multipliers of what stays learn.
//
// Memory, with n units in all, D of them channels of the stream, L layers and W windows a step: 100n bytes, and (W+1)*(16n + 12*D*L)
// bytes while searching, as for one window after that. Not safe for concurrent use.
type Masks struct {
	arch *arch.Model
	opt  Options
	u    units
	free []bool // [n], units that may go

	mu, logD []float32 // [n]
	kept     []float32 // [n], 1 for what stays, 0 for what has gone
	searched []float32 // [n], mu as the search has left it
	moments  [4][]float32
	dual     multipliers
	phase    []float32 // [2], 1 once settled, and the steps since then

	draws   []*draw
	still   *draw     // without noise
	quiet   bool      // the step has no noise
	weight  []float64 // [n], of the prior
	full    float64   // cost of the whole model
	start   float64   // the share that is expected to be saved before the first step
	budget  budget    // of the whole cost in the last step
	budgets []budget  // of every constraint
	parts   []group   // nil for one constraint on the cost
	prior   float64
}

var _ distill.Masks = (*Masks)(nil)

// initial draws have a step of their own.
const initial = math.MaxUint64

// New returns masks for a model. mu starts near 1 and log D near opt.LogD, drawn from the seed. Units that the rules keep from
// changing have no mask. Options that make no search, and rules and targets that [prune.FitLayers] refuses, are errors.
func New(m *arch.Model, opt Options) (*Masks, error) {
	if err := opt.check(m); err != nil {
		return nil, err
	}
	k := &Masks{arch: m, opt: opt, u: unitsOf(m), phase: make([]float32, 2)}
	for _, v := range []*[]float32{&k.mu, &k.logD, &k.kept, &k.searched, &k.moments[0], &k.moments[1], &k.moments[2], &k.moments[3]} {
		*v = make([]float32, k.u.n)
	}
	k.free, k.weight, k.still = k.u.free(opt.Rules), k.u.weights(opt.Prior), newDraw(&k.u)
	k.draw(noise{opt.Seed})
	k.full = opt.Target.Soft(prune.Expect(m, opt.Target.Length, prune.All(m))).Value
	_, k.start = k.expect(k.soft(opt.Beta))
	if opt.Counts != nil {
		var err error
		if k.parts, err = k.groups(opt.Counts); err != nil {
			return nil, err
		}
	}
	k.dual = newMultipliers(max(1, len(k.parts)), opt.Penalty)
	return k, nil
}

// draw sets the initial values.
func (m *Masks) draw(n noise) {
	n.normal(m.mu, initial, 0)
	n.normal(m.logD, initial, 1)
	for i := range m.mu {
		m.mu[i], m.logD[i], m.kept[i] = 1+float32(spread*m.mu[i]), float32(m.opt.LogD)+float32(spread*m.logD[i]), 1
		if !m.free[i] {
			m.mu[i], m.logD[i] = 1, unmasked
		}
	}
}

// spread is the standard deviation of initial values.
const spread = 0.01

// Settled reports whether the search is over.
func (m *Masks) Settled() bool { return m.phase[0] != 0 }

// logAlpha is log α = log D - log(mu² + 1e-8) of a unit: the noise in its multiplier, relative to the multiplier. A unit stays
// while it is below 0.
func logAlpha(mu, logD float32) float64 {
	v := float64(mu)
	return float64(logD) - math.Log(float64(v*v)+tiny)
}

// unmasked is log D of units without a mask, which have no noise and stay with certainty.
const unmasked = -1e4

// tiny keeps logarithms and quotients finite.
const tiny = 1e-8

// Begin draws the multipliers of a step's windows.
func (m *Masks) Begin(step, windows int) error {
	if windows < 1 || step < 0 && step != distill.Evaluation {
		return fmt.Errorf("vib: step %d of %d windows", step, windows)
	}
	m.quiet = m.Settled() || step == distill.Evaluation
	if m.quiet {
		m.still.set(&m.u, m.mu, m.stays())
		return nil
	}
	for len(m.draws) < windows {
		m.draws = append(m.draws, newDraw(&m.u))
	}
	sigma := m.sigmas()
	for w := range m.draws[:windows] {
		noise{m.opt.Seed}.normal(m.draws[w].eps, uint64(step), uint64(w))
		m.draws[w].sample(&m.u, m.mu, sigma)
	}
	m.draws = m.draws[:windows]
	return nil
}

// stays says what stays now: what was settled, else what log α says.
func (m *Masks) stays() []float32 {
	if m.Settled() {
		return m.kept
	}
	out := make([]float32, m.u.n)
	for i := range out {
		if logAlpha(m.mu[i], m.logD[i]) < 0 {
			out[i] = 1
		}
	}
	return out
}

// sigmas are the standard deviations of the multipliers.
func (m *Masks) sigmas() []float64 {
	out := make([]float64, m.u.n)
	for i, v := range m.logD {
		out[i] = math.Exp(float64(v) / 2)
	}
	return out
}

// window returns the draw of a window.
func (m *Masks) window(w int) *draw {
	if m.quiet {
		return m.still
	}
	return m.draws[w]
}

// EmbedGate returns what multiplies the embedded tokens of a window.
func (m *Masks) EmbedGate(window int) []float32 { return hiddenOf(&m.u, m.window(window).z) }

// Gates returns what multiplies the units of a layer.
func (m *Masks) Gates(layer, window int) *nn.Gates { return &m.window(window).gates[layer] }

// EmbedGrad adds the gradient by the multipliers of the embedded tokens: Σ_t x[t,c]·grad[t,c] for channel c.
func (m *Masks) EmbedGrad(window int, x, grad []float32) {
	g := hiddenOf(&m.u, m.window(window).grad)
	for at := 0; at < len(x); at += len(g) {
		for c := range g {
			g[c] += float64(x[at+c]) * float64(grad[at+c])
		}
	}
}

// Kept returns the channels that norms are taken over: those that stay, of which each counts as much as is expected of it during
// the search.
func (m *Masks) Kept() *nn.KeptChannels {
	keep := m.stays()
	if !m.quiet {
		for i, v := range m.soft(m.opt.WidthBeta) {
			keep[i] = float32(v)
		}
	}
	k := &nn.KeptChannels{Keep: append([]float32(nil), hiddenOf(&m.u, keep)...)}
	width := 0.0
	for _, v := range k.Keep {
		width += float64(v)
	}
	k.Width = max(float32(width), leastWidth)
	return k
}

// leastWidth is what norms are taken over where no channel is left, as may happen within a search.
const leastWidth = 1

// soft is how much of each unit is expected to stay: sigmoid(-beta·log α).
func (m *Masks) soft(beta float64) []float64 {
	out := make([]float64, m.u.n)
	for i := range out {
		out[i] = 1 / (1 + math.Exp(beta*logAlpha(m.mu[i], m.logD[i])))
	}
	return out
}
