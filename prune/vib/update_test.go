package vib

import (
	"math"
	"testing"

	"modelpress/distill"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// slowAdam is Adam in float64 (Kingma and Ba, arXiv:1412.6980, algorithm 1).
type slowAdam struct{ p, m, v []float64 }

func newSlowAdam(p []float32) *slowAdam {
	return &slowAdam{wide(p), make([]float64, len(p)), make([]float64, len(p))}
}

func (a *slowAdam) step(g []float64, rate float64, n int) {
	for i := range g {
		a.m[i] = 0.9*a.m[i] + 0.1*g[i]
		a.v[i] = 0.99*a.v[i] + 0.01*g[i]*g[i]
		m, v := a.m[i]/(1-math.Pow(0.9, float64(n))), a.v[i]/(1-math.Pow(0.99, float64(n)))
		a.p[i] -= rate * m / (math.Sqrt(v) + 1e-8)
	}
}

// TestEnd compares the steps of a search and after it with their plain float64 meaning: gradients by differences of the objective, cut
// to a norm, Adam at a rate that falls linearly, multipliers that ascend; then mu alone.
func TestEnd(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 2, D: 8, H: 2, F: 12, V: 16, Context: 16, Seed: 1})
	opt := quick(0.6)
	opt.Search, opt.Tune, opt.Clip, opt.Rates.Dual2, opt.Rules.HiddenMultiple, opt.Rules.FFNMultiple = 5, 3, 0.5, 3, 1, 1
	opt.Prior.All, opt.Rates.LogD, opt.Rates.Tune = 1e-3, 0.1, 0.02 // Adam multiplies what f32 rounds by the rate
	k := newMasks(t, describe(t, src.Config, src), opt)
	mu, logD := newSlowAdam(k.mu), newSlowAdam(k.logD)
	one, two := 0.0, opt.Penalty
	for step := range opt.Search {
		s := begun(t, k, step)
		s.feed()
		one, two = slowStep(t, s, mu, logD, one, two, step)
		if _, _, err := k.End(step); err != nil {
			t.Fatal(err)
		}
		near(t, "mu", k.mu, mu.p)
		near(t, "log D", k.logD, logD.p)
		near(t, "multipliers", k.dual, []float64{one, two})
	}
	if k.dual[0] == 0 || k.dual[1] == 20 {
		t.Errorf("multipliers %v do not ascend", k.dual)
	}
	if _, err := k.Compact(); err != nil {
		t.Fatal(err)
	}
	mu, logD = newSlowAdam(k.mu), newSlowAdam(k.logD)
	for step := range opt.Tune {
		s := begun(t, k, step)
		s.feed()
		number := step + opt.Search*(step%2) // whatever the run calls it
		byMu := slowGradient(k, func() float64 { return s.value(masked64(k, mu.p), logD.p, step) - s.own(mu.p, logD.p, step) }, mu.p)
		clip(opt.Clip, byMu)
		mu.step(byMu, opt.Rates.Tune*(1-float64(step)/3), step+1)
		if _, _, err := k.End(number); err != nil {
			t.Fatal(err)
		}
		near(t, "tuned mu", k.mu, mu.p)
		near(t, "log D after the search", k.logD, logD.p)
	}
}

// masked64 is mu of what stays.
func masked64(k *Masks, mu []float64) []float64 {
	out := make([]float64, len(mu))
	for i, v := range mu {
		out[i] = v * float64(k.kept[i])
	}
	return out
}

// begun is an objective for the windows of a step.
func begun(t *testing.T, k *Masks, step int) *smooth {
	t.Helper()
	windows := 3
	if k.Settled() {
		windows = 1
	}
	if err := k.Begin(step, windows); err != nil {
		t.Fatal(err)
	}
	return newSmooth(k, windows)
}

// slowStep makes a step of the search and returns the multipliers after it.
func slowStep(t *testing.T, s *smooth, mu, logD *slowAdam, one, two float64, step int) (float64, float64) {
	t.Helper()
	k := s.k
	near(t, "multipliers", k.dual, []float64{one, two})
	value := func() float64 { return s.value(mu.p, logD.p, step) }
	byMu, byLogD := slowGradient(k, value, mu.p), slowGradient(k, value, logD.p)
	keep := make([]float64, k.u.n)
	for i := range keep {
		keep[i] = 1 / (1 + math.Exp(k.opt.Beta*(logD.p[i]-math.Log(mu.p[i]*mu.p[i]+1e-8))))
	}
	cost := func(e prune.Expected) float64 { return prune.Expect(k.arch, 0, e).Params.Value }
	miss := 1 - cost(k.u.expected(keep))/cost(prune.All(k.arch)) - k.opt.target(step, k.start)
	clip(k.opt.Clip, byMu, byLogD)
	left := 1 - float64(step)/8
	mu.step(byMu, k.opt.Rates.Mu*left, step+1)
	logD.step(byLogD, k.opt.Rates.LogD*left, step+1)
	return one + k.opt.Rates.Dual1*miss, two + k.opt.Rates.Dual2*miss*miss
}

// slowGradient is that of value by v, from differences.
func slowGradient(k *Masks, value func() float64, v []float64) []float64 {
	g := make([]float64, len(v))
	for i := range v {
		if k.kept[i] == 0 {
			continue
		}
		const h = 1e-5
		was := v[i]
		v[i] = was + h
		up := value()
		v[i] = was - h
		g[i] = (up - value()) / (2 * h)
		v[i] = was
	}
	return g
}

func clip(limit float64, grads ...[]float64) {
	norm := 0.0
	for _, g := range grads {
		for _, v := range g {
			norm += v * v
		}
	}
	for _, g := range grads {
		for i := range g {
			g[i] *= min(1, limit/math.Sqrt(norm))
		}
	}
}

// near compares values that went through a few steps in f32.
func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= 1e-4*max(1, math.Abs(w))) {
			t.Fatalf("%s of unit %d is %v, want %v", what, i, got[i], w)
		}
	}
}

// TestRefuses: options that make no search, and steps that are none.
func TestRefuses(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 2, D: 16, H: 2, F: 24, V: 16, Context: 16, Seed: 1})
	a := describe(t, src.Config, src)
	nan, inf := math.NaN(), math.Inf(1)
	for i, change := range []func(o *Options){
		func(o *Options) { o.Search = 0 }, func(o *Options) { o.Tune = -1 }, func(o *Options) { o.Rise = 0 },
		func(o *Options) { o.Rise = 1.1 }, func(o *Options) { o.Rise = nan }, func(o *Options) { o.Beta = 0 },
		func(o *Options) { o.Beta = inf }, func(o *Options) { o.WidthBeta = nan }, func(o *Options) { o.LogD = inf },
		func(o *Options) { o.Penalty = -1 }, func(o *Options) { o.Penalty = nan }, func(o *Options) { o.Clip = -1 },
		func(o *Options) { o.Clip = nan }, func(o *Options) { o.Rates.Mu = 0 }, func(o *Options) { o.Rates.LogD = nan },
		func(o *Options) { o.Rates.Dual1 = -1 }, func(o *Options) { o.Rates.Dual2 = inf }, func(o *Options) { o.Rates.Tune = 0 },
		func(o *Options) { o.Prior.All = -1 }, func(o *Options) { o.Prior.Heads = nan }, func(o *Options) { o.Rules = prune.Rules{} },
		func(o *Options) { o.Rules.FFNMultiple = -8 }, func(o *Options) { o.Target.Share = 0 }, func(o *Options) { o.Target.Share = 1.2 },
		func(o *Options) { o.Target.Metric = "size" }, func(o *Options) { o.Target.Length = -1 },
		func(o *Options) { o.Target.Metric, o.Rules = prune.ByKV, prune.Rules{FFN: true} },
	} {
		o := quick(0.5)
		change(&o)
		if _, err := New(a, o); err == nil {
			t.Errorf("options %d pass: %+v", i, o)
		}
	}
	k := newMasks(t, a, quick(0.5))
	if k.Begin(-2, 1) == nil || k.Begin(0, 0) == nil {
		t.Error("a step that is none")
	}
	if _, _, err := k.End(distill.Evaluation); err == nil {
		t.Error("the end of an evaluation")
	}
	if err := k.Begin(0, 1); err != nil {
		t.Fatal(err)
	}
	k.draws[0].grad[3] = nan
	if _, _, err := k.End(0); err == nil {
		t.Error("a gradient that is no number passes")
	}
}
