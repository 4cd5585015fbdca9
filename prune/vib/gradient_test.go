package vib

import (
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// smooth is an objective that depends on gates alone: Σ sin(a·z) over the gates of every kind and window, with an a for each, and a
// linear function of the embedded tokens. The masks' part of the gradient is thus all there is.
type smooth struct {
	k       *Masks
	windows int
	a       [][]float64 // [window], of the stream in each layer, of heads and channels
	x, g    [][]float32 // [window][2*D], embedded tokens and the gradient by them under the gate
}

func newSmooth(k *Masks, windows int) *smooth {
	rnd := rand.New(rand.NewPCG(4, 4))
	s := &smooth{k: k, windows: windows}
	for range windows {
		a := make([]float64, len(k.u.layers)*k.u.d+k.u.n)
		for i := range a {
			a[i] = rnd.NormFloat64()
		}
		x, g := make([]float32, 2*k.u.d), make([]float32, 2*k.u.d)
		for i := range x {
			x[i], g[i] = float32(rnd.NormFloat64()), float32(rnd.NormFloat64())
		}
		s.a, s.x, s.g = append(s.a, a), append(s.x, x), append(s.g, g)
	}
	return s
}

// feed gives the masks the gradients of the objective, as a trainer does.
func (s *smooth) feed() {
	for w := range s.windows {
		a := s.a[w]
		add := func(z []float32, grad []float64) {
			for i, v := range z {
				grad[i] += a[i] * math.Cos(a[i]*float64(v))
			}
			a = a[len(z):]
		}
		for l := range s.k.u.layers {
			g := s.k.Gates(l, w)
			add(g.Hidden, g.GradHidden)
			add(g.Heads, g.GradHeads)
			add(g.FFN, g.GradFFN)
		}
		s.k.EmbedGrad(w, s.x[w], s.g[w])
	}
}

// value is the objective with the masks' own losses, computed from scratch for masks in float64.
func (s *smooth) value(mu, logD []float64, step int) float64 {
	k, total := s.k, 0.0
	for w := range s.windows {
		z := make([]float64, k.u.n)
		for i := range z {
			z[i] = mu[i]
			if !k.quiet {
				z[i] += float64(k.draws[w].eps[i]) * math.Exp(logD[i]/2)
			}
		}
		a := s.a[w]
		term := func(v float64) {
			total += math.Sin(a[0] * v)
			a = a[1:]
		}
		for _, l := range k.u.layers {
			for c := range k.u.d {
				term(z[c] * z[l.gate])
			}
			for i := range l.g + l.f {
				term(z[l.heads+i])
			}
		}
		for i, x := range s.x[w] {
			total += float64(x) * float64(s.g[w][i]) * z[i%k.u.d]
		}
	}
	return total + s.own(mu, logD, step)
}

// own is what the masks add.
func (s *smooth) own(mu, logD []float64, step int) float64 {
	k, o, total := s.k, s.k.opt, 0.0
	keep := make([]float64, k.u.n)
	for i := range keep {
		keep[i] = 1
		if k.free[i] {
			total += k.weight[i] / 2 * math.Log(1+mu[i]*mu[i]/(math.Exp(logD[i])+1e-8))
			keep[i] = 1 / (1 + math.Exp(o.Beta*(logD[i]-math.Log(mu[i]*mu[i]+1e-8))))
		}
	}
	e := prune.Expected{Layers: make([]prune.ExpectedLayer, len(k.u.layers))}
	for c := range k.u.d {
		e.Hidden += keep[c]
	}
	for i, l := range k.u.layers {
		e.Layers[i].Layer = keep[l.gate]
		for j := range l.g {
			e.Layers[i].Heads += keep[l.heads+j]
		}
		for j := range l.f {
			e.Layers[i].FFN += keep[l.ffn+j]
		}
	}
	cost := func(e prune.Expected) float64 { return o.Target.Soft(prune.Expect(k.arch, o.Target.Length, e)).Value }
	if o.Counts != nil {
		return total + s.groups(keep, step)
	}
	miss := 1 - cost(e)/cost(prune.All(k.arch)) - o.target(step, k.start)
	return total + float64(k.dual[0])*miss + float64(k.dual[1])*miss*miss
}

// groups is what constraints on every kind and layer add: each weighed by what a hundredth less of its units saves, a hundred times.
func (s *smooth) groups(keep []float64, step int) float64 {
	k, o, total, n := s.k, s.k.opt, 0.0, 0
	cost := func(e prune.Expected) float64 { return o.Target.Soft(prune.Expect(k.arch, o.Target.Length, e)).Value }
	add := func(units []float64, want int, less func(e *prune.Expected, part float64)) {
		if want == len(units) || len(units) == 0 {
			return
		}
		up, down := prune.All(k.arch), prune.All(k.arch)
		const h = 1e-4
		less(&up, 1+h)
		less(&down, 1-h)
		weight := (cost(up) - cost(down)) / (2 * h) / cost(prune.All(k.arch))
		sum := 0.0
		for _, u := range units {
			sum += u / float64(len(units))
		}
		at := math.Min(1, float64(step+1)/(o.Rise*float64(o.Search)))
		end, start := 1-float64(want)/float64(len(units)), k.parts[n].start
		miss := 1 - sum - (start + (end-start)*at)
		total += weight * (float64(k.dual[2*n])*miss + float64(k.dual[2*n+1])*miss*miss)
		n++
	}
	add(keep[:k.u.d], o.Counts.Hidden, func(e *prune.Expected, part float64) { e.Hidden *= part })
	for i, l := range k.u.layers {
		c := o.Counts.Layers[i]
		if c.Drop {
			add(keep[l.gate:l.gate+1], 0, func(e *prune.Expected, part float64) { e.Layers[i].Layer *= part })
			continue
		}
		add(keep[l.heads:l.heads+l.g], c.Heads, func(e *prune.Expected, part float64) { e.Layers[i].Heads *= part })
		add(keep[l.ffn:l.ffn+l.f], c.FFN, func(e *prune.Expected, part float64) { e.Layers[i].FFN *= part })
	}
	return total
}

// TestGradientsOfGroups is TestGradients for a search for given counts.
func TestGradientsOfGroups(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 3, D: 16, H: 4, G: 2, F: 24, V: 32, Context: 16, Seed: 1})
	opt := quick(0.6)
	opt.Counts = &prune.Counts{Hidden: 12, Layers: []prune.LayerCounts{{Heads: 1, FFN: 10}, {Drop: true}, {Heads: 2, FFN: 20}}}
	k := newMasks(t, describe(t, src.Config, src), opt)
	if len(k.parts) != 5 {
		t.Fatalf("%d constraints, want 5", len(k.parts))
	}
	shaken(k, 3)
	for i := range k.dual {
		k.dual[i] = float32(7*i - 30)
	}
	checkGradients(t, k, 3, 11)
	opt.Counts.Hidden = 17
	if _, err := New(k.arch, opt); err == nil {
		t.Error("17 of 16 channels are taken")
	}
}

// TestGradients compares the gradients by mu and log D of every unit with central differences: of an objective by way of the noisy
// multipliers, shared between embedding, attention and FFN and between the units of a layer, of the prior, and of the constraint.
func TestGradients(t *testing.T) {
	for name, o := range map[string]testmodel.Options{
		"llama": {Layers: 2, D: 16, H: 4, G: 2, F: 24, V: 32, Context: 16, Seed: 1},
		"gpt2":  {Family: "gpt2", Layers: 2, D: 16, H: 4, F: 24, V: 32, Context: 16, Seed: 1},
		"uneven": {Layers: 3, D: 16, H: 4, F: 24, V: 32, Context: 16, Bias: true, Tied: true, Seed: 1,
			PerLayer: map[int]testmodel.Sizes{1: {NoAttention: true}, 2: {NoFeedFwd: true}}},
	} {
		for metric, rules := range map[prune.Metric]prune.Rules{
			prune.ByParams: every, prune.ByFLOPs: every, prune.ByKV: {Heads: true, Hidden: true, Depth: true},
		} {
			t.Run(name+" "+string(metric), func(t *testing.T) {
				src := testmodel.New(o)
				opt := quick(0.6)
				opt.Target.Metric, opt.Target.Length, opt.Rules = metric, 64, rules
				opt.Prior = Prior{All: 0.01, Hidden: 3, Layer: 5}
				k := newMasks(t, describe(t, src.Config, src), opt)
				shaken(k, 3)
				k.dual[0], k.dual[1] = -30, 70
				checkGradients(t, k, 3, 11)
			})
		}
	}
}

func checkGradients(t *testing.T, k *Masks, windows, step int) {
	t.Helper()
	if err := k.Begin(step, windows); err != nil {
		t.Fatal(err)
	}
	s := newSmooth(k, windows)
	s.feed()
	byMu, byLogD := k.gradients()
	prior := k.priorLoss(byMu, byLogD)
	value := k.constraints(step, byMu, byLogD)
	mu, logD := wide(k.mu), wide(k.logD)
	if got, want := prior+value, s.own(mu, logD, step); math.Abs(got-want) > 1e-9*math.Abs(want) {
		t.Errorf("losses of the masks are %v, want %v", got, want)
	}
	differ := func(what string, v, grad []float64) {
		for i := range v {
			if !k.free[i] {
				continue
			}
			const h = 1e-5
			was := v[i]
			v[i] = was + h
			up := s.value(mu, logD, step)
			v[i] = was - h
			want := (up - s.value(mu, logD, step)) / (2 * h)
			v[i] = was
			if d := math.Abs(grad[i] - want); !(d <= 1e-5*max(1, math.Abs(want))) {
				t.Fatalf("gradient by %s of unit %d is %v, differences give %v", what, i, grad[i], want)
			}
		}
	}
	differ("mu", mu, byMu)
	differ("log D", logD, byLogD)
}

func wide(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}
