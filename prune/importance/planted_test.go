package importance

import (
	"context"
	"errors"
	"math"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// useless sets every stored value to zero that goes with one of the units.
func useless(t *testing.T, src *testmodel.Model, m *arch.Model, which ...unit) {
	t.Helper()
	zero := map[unit]bool{}
	for _, u := range which {
		zero[u] = true
	}
	values := map[string][]float32{}
	for k, list := range unitsOf(m) {
		for _, u := range list {
			if !zero[u] {
				continue
			}
			if values[k.name] == nil {
				v, err := src.Values(k.name)
				if err != nil {
					t.Fatal(err)
				}
				values[k.name] = v
			}
			values[k.name][k.index] = 0
		}
	}
	for name, v := range values {
		src.Set(name, v)
	}
}

// measures are all methods with what they rest on.
func measures(t *testing.T) map[string]func(m *nn.Model) *prune.Scores {
	score := func(c Config) func(m *nn.Model) *prune.Scores {
		return func(m *nn.Model) *prune.Scores {
			s, err := Score(context.Background(), m, windows(m.Arch), c)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(m.Arch); err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	return map[string]func(m *nn.Model) *prune.Scores{
		"activations":            score(Config{Method: ByActivations}),
		"activations, var":       score(Config{Method: ByActivations, Batch: Mean, Sequence: Variance}),
		"activations, influence": score(Config{Method: ByActivations, Depth: ByInfluence}),
		"mix":                    score(Config{Method: ByTaylor}),
		"first":                  score(Config{Method: ByTaylor, Term: First}),
		"second":                 score(Config{Method: ByTaylor, Term: Second, Depth: ByInfluence}),
		"vector":                 score(Config{Method: ByTaylor, Term: Vector}),
		"magnitude":              score(Config{Method: ByMagnitude}),
		"magnitude, perplexity":  score(Config{Method: ByMagnitude, Depth: ByPerplexity}),
	}
}

// TestUselessUnitsScoreNothing: units all of whose weights are zero score 0 by every method, and all others score more.
func TestUselessUnitsScoreNothing(t *testing.T) {
	for _, c := range models() {
		src := testmodel.New(c.Options)
		m := describe(t, src, 2)
		planted := map[unit]bool{{"hidden", -1, 3}: true, {"ffn", 0, 2}: true}
		if m.Arch.Layers[0].G > 1 {
			planted[unit{"head", 0, 1}] = true
		}
		for l, a := range m.Arch.Layers {
			if !a.HasAttention() || !a.HasFFN() {
				planted[unit{"layer", l, 0}] = true
			}
		}
		for u := range planted {
			useless(t, src, m.Arch, u)
		}
		for name, score := range measures(t) {
			for u, v := range flat(score(m)) {
				inside := u.layer >= 0 && planted[unit{"layer", u.layer, 0}] // a useless layer's own units
				if zero := planted[u] || inside; zero && math.Abs(v) > 1e-12 || !zero && u.kind != "layer" && !(v > 1e-9) {
					t.Errorf("%s, %s: %v (planted %v) scores %g", c.Name, name, u, zero, v)
				}
			}
		}
	}
}

// TestUselessLayers: a layer that adds nothing to the stream has no influence and is not missed.
func TestUselessLayers(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 3, G: 4, Seed: 21})
	m := describe(t, src, 2)
	for _, r := range []arch.Role{arch.O, arch.Down} {
		lin := m.Arch.Layers[1].Linears[r]
		src.Set(lin.Weight, make([]float32, lin.Out*lin.In))
	}
	influence, err := BlockInfluence(t.Context(), m, windows(m.Arch), Options{})
	if err != nil {
		t.Fatal(err)
	}
	removal, err := RemoveLayers(t.Context(), m, windows(m.Arch), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for l, v := range influence {
		if l == 1 && math.Abs(v) > 1e-15 || l != 1 && v < 1e-6 {
			t.Errorf("layer %d has influence %g", l, v)
		}
	}
	if removal.Without[1] != removal.Base || removal.Without[0] == removal.Base || removal.Without[2] == removal.Base {
		t.Errorf("losses %+v, layer 1 adds nothing", removal)
	}
}

// TestTaylorSeesWhatMagnitudeDoesNot: an FFN channel with large weights that nothing reads is the largest by magnitude and by activation,
// and worth nothing to the loss.
func TestTaylorSeesWhatMagnitudeDoesNot(t *testing.T) {
	const channel = 5
	src := testmodel.New(testmodel.Options{G: 4, Seed: 22})
	m := describe(t, src, 2)
	a := &m.Arch.Layers[0]
	for _, r := range []arch.Role{arch.Gate, arch.Up, arch.Down} {
		lin := a.Linears[r]
		v, err := src.Values(lin.Weight)
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Arch.D {
			if r == arch.Down {
				v[i*lin.In+channel] = 0
			} else {
				v[channel*lin.In+i] *= 20
			}
		}
		src.Set(lin.Weight, v)
	}
	for name, score := range measures(t) {
		s := score(m).Layers[0].FFN
		lower := 0
		for _, v := range s {
			if v < s[channel] {
				lower++
			}
		}
		switch name {
		case "mix", "first", "second", "vector":
			if s[channel] != 0 || lower > 0 {
				t.Errorf("%s: the channel scores %g", name, s[channel])
			}
		default:
			if lower != len(s)-1 {
				t.Errorf("%s: the channel is above %d of %d", name, lower, len(s)-1)
			}
		}
	}
}

// TestThreads: the same bits from one thread, from four, and from a device whose memory is not the host's.
func TestThreads(t *testing.T) {
	for _, name := range []string{"llama-pruned", "qwen3-tied", "gpt2"} {
		src := testmodel.Named(name)
		one, four, far := describe(t, src, 1), describe(t, src, 4), describe(t, src, 3)
		for what, score := range measures(t) {
			s := score(one)
			if !equalBits(s, score(four)) {
				t.Errorf("%s, %s: scores depend on the number of threads", name, what)
			}
			if !equalBits(s, score(far)) {
				t.Errorf("%s, %s: scores depend on where the device's memory is", name, what)
			}
		}
	}
}

func TestScore(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 3, G: 4, Seed: 23})
	m := describe(t, src, 2)
	w := windows(m.Arch)
	score := func(c Config) *prune.Scores {
		s, err := Score(t.Context(), m, w, c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	influence, err := BlockInfluence(t.Context(), m, w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	removal, err := RemoveLayers(t.Context(), m, w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var last, total int
	show := Options{Progress: func(d, n int) { last, total = d, n }}
	a, b := score(Config{Method: ByTaylor, Depth: ByInfluence, Options: show}), score(Config{Method: ByMagnitude, Depth: ByPerplexity})
	if last == 0 || last != total {
		t.Errorf("progress ends at %d of %d", last, total)
	}
	for l := range influence {
		if a.Layers[l].Layer != influence[l] || b.Layers[l].Layer != removal.Without[l]-removal.Base {
			t.Errorf("layer %d scores %g by influence and %g by perplexity", l, a.Layers[l].Layer, b.Layers[l].Layer)
		}
	}
	plain := score(Config{Method: ByTaylor})
	for l := range a.Layers {
		a.Layers[l].Layer = plain.Layers[l].Layer
	}
	if !equalBits(a, plain) {
		t.Error("the measure of layers changes other scores")
	}
	if !equalBits(score(Config{Method: ByChance, Seed: 7, Depth: ByInfluence}), Random(m.Arch, 7)) || equalBits(Random(m.Arch, 7), Random(m.Arch, 8)) {
		t.Error("random scores do not follow the seed")
	}
	for _, c := range []Config{{}, {Method: "luck"}, {Method: ByChance, Depth: "height"}} {
		if _, err := Score(t.Context(), m, w, c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, method := range []Method{ByActivations, ByTaylor, ByMagnitude} {
		if _, err := Score(ctx, m, w, Config{Method: method}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v after the end of its context", method, err)
		}
	}
}

// Random scores are uniform.
func TestRandom(t *testing.T) {
	src := testmodel.New(testmodel.Options{D: 512, H: 8, F: 4096, Layers: 2, Seed: 1})
	s := Random(describe(t, src, 1).Arch, 3)
	for name, v := range map[string][]float64{"hidden": s.Hidden, "ffn 0": s.Layers[0].FFN, "ffn 1": s.Layers[1].FFN} {
		mean, square := 0.0, 0.0
		for _, x := range v {
			mean += x / float64(len(v))
			square += x * x / float64(len(v))
		}
		if n := math.Sqrt(float64(len(v))); math.Abs(mean-0.5) > 4*0.289/n || math.Abs(square-1.0/3) > 4*0.298/n {
			t.Errorf("%s: mean %g, mean square %g", name, mean, square)
		}
	}
	if s.Layers[0].FFN[0] == s.Layers[1].FFN[0] || s.Hidden[0] == s.Layers[0].FFN[0] {
		t.Error("two kinds of units draw the same numbers")
	}
}
