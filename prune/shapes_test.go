package prune

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

func configured(t testing.TB, o testmodel.Options) *arch.Model {
	t.Helper()
	m, err := arch.DescribeConfig(testmodel.New(o).Config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// randomScores ranks everything.
func randomScores(m *arch.Model, seed uint64) *Scores {
	rnd := rand.New(rand.NewPCG(seed, 11))
	some := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = rnd.NormFloat64()
		}
		return v
	}
	s := &Scores{Hidden: some(m.D)}
	for l := range m.Layers {
		s.Layers = append(s.Layers, LayerScores{rnd.NormFloat64(), some(m.Layers[l].G), some(m.Layers[l].F)})
	}
	return s
}

// bruteShapes tries every shape within the rules.
func bruteShapes(m *arch.Model, t Target, r Rules) []Shape {
	a, of := &m.Layers[0], t.Of(Count(m, t.Length))
	var out []Shape
	for d := 1; d <= m.D; d++ {
		for g := 1; g <= a.G; g++ {
			h := g * a.H / a.G
			if !r.AnyHeads && g != a.G && g&(g-1) != 0 || g != a.G && !r.Heads || d != m.D && !r.Hidden {
				continue
			}
			if m.PosEmbed != "" {
				if d != h*a.K {
					continue
				}
			} else if d != m.D && d%r.HiddenMultiple != 0 || d%h != 0 && (d != m.D || g != a.G) {
				continue
			}
			for f := 1; f <= a.F; f++ {
				if f != a.F && (f%r.FFNMultiple != 0 || !r.FFN) {
					continue
				}
				for n := 1; n <= len(m.Layers); n++ {
					if n != len(m.Layers) && !r.Depth {
						continue
					}
					sizes := slices.Repeat([]arch.LayerSize{{H: h, G: g, F: f}}, n)
					small := m.Select(seq(n)).Resize(d, sizes)
					share := float64(t.Of(Count(small, t.Length))) / float64(of)
					if math.Abs(share-t.Share) <= Tolerance*t.Share {
						out = append(out, Shape{d, g, f, n})
					}
				}
			}
		}
	}
	return out
}

func TestShapesAreAllShapes(t *testing.T) {
	all := Rules{Hidden: true, Heads: true, FFN: true, Depth: true, HiddenMultiple: 8, FFNMultiple: 8}
	width := all
	width.Depth = false
	any := all
	any.AnyHeads = true
	for _, c := range []struct {
		name string
		o    testmodel.Options
		t    Target
		r    Rules
	}{
		{"params", testmodel.Options{Layers: 3, G: 4}, Target{ByParams, 0.5, 0}, all},
		{"params of widths", testmodel.Options{Layers: 3, G: 4, Tied: true, Bias: true}, Target{ByParams, 0.705, 0}, width},
		{"flops", testmodel.Options{Layers: 3, G: 2}, Target{ByFLOPs, 0.6, 500}, all},
		{"flops under windows", testmodel.Options{Family: "mistral", Layers: 3, G: 2, Window: 20}, Target{ByFLOPs, 0.6, 500}, all},
		{"three KV heads", testmodel.Options{Layers: 4, D: 72, H: 9, G: 3, F: 200}, Target{ByParams, 0.5, 0}, all},
		{"any heads", testmodel.Options{Layers: 3, D: 48, H: 6, F: 120}, Target{ByParams, 0.5, 0}, any},
		{"qwen3", testmodel.Options{Family: "qwen3", H: 4, G: 2, K: 32}, Target{ByParams, 0.45, 0}, width},
		{"gpt2", testmodel.Options{Family: "gpt2", Layers: 3}, Target{ByParams, 0.453, 0}, all},
		{"gpt2, any heads", testmodel.Options{Family: "gpt2", Layers: 3}, Target{ByParams, 0.45, 0}, any},
		{"FFN alone", testmodel.Options{Layers: 2}, Target{ByParams, 0.75, 0}, Rules{FFN: true, HiddenMultiple: 8, FFNMultiple: 4}},
		{"depth alone", testmodel.Options{Layers: 7, V: 8}, Target{ByParams, 0.43, 0}, Rules{Depth: true, HiddenMultiple: 8, FFNMultiple: 8}},
	} {
		m := configured(t, c.o)
		got, err := Shapes(m, c.t, c.r, Wish{Most: 1 << 20})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := bruteShapes(m, c.t, c.r)
		key := func(a, b Shape) int {
			return slices.Compare([]int{a.D, a.G, a.F, a.Layers}, []int{b.D, b.G, b.F, b.Layers})
		}
		sorted := slices.Clone(got)
		slices.SortFunc(sorted, key)
		if slices.SortFunc(want, key); !slices.Equal(sorted, want) {
			t.Errorf("%s: %d shapes %v\nwant %d %v", c.name, len(sorted), sorted[:min(9, len(sorted))], len(want), want[:min(9, len(want))])
		}
		t.Logf("%s: %d shapes, %v first", c.name, len(got), got[0])
		few, err := Shapes(m, c.t, c.r, Wish{Most: 3})
		if err != nil || !slices.Equal(few, got[:min(3, len(got))]) {
			t.Errorf("%s: the best three are %v of %v, %v", c.name, few, got, err)
		}
	}
}

// The first shape is the closest to the one wished for, and every other is farther.
func TestShapesAreSorted(t *testing.T) {
	m := configured(t, testmodel.Llama135M())
	target := Target{ByParams, 0.5, 0}
	r := Rules{Hidden: true, Heads: true, FFN: true, Depth: true}
	for _, w := range []Wish{{}, {Sizes: Sizes{D: 288, Layers: 20}}, {Sizes: Sizes{500, 3, 700, 12}, Weight: Sizes{D: 1, F: 0.1, Layers: 4}}} {
		got, err := Shapes(m, target, r, w)
		if err != nil {
			t.Fatal(err)
		}
		filled := w
		even, err := Even(m, target, r)
		if err != nil {
			t.Fatal(err)
		}
		filled.fill(even)
		last := -1.0
		for _, x := range got {
			d := 0.0
			for i, v := range []float64{float64(x.D), float64(x.G), float64(x.F), float64(x.Layers)} {
				want := []float64{filled.Sizes.D, filled.Sizes.G, filled.Sizes.F, filled.Sizes.Layers}[i]
				d += []float64{filled.Weight.D, filled.Weight.G, filled.Weight.F, filled.Weight.Layers}[i] * math.Abs(v/want-1)
			}
			if d < last-2e-9 {
				t.Errorf("%+v: %v is at %g, after %g", w, x, d, last)
			}
			last = d
		}
		t.Logf("%+v: %v", filled.Sizes, got[:2])
	}
}

// A shape's count is that of the smaller checkpoint, and its units are those with the best scores.
func TestShapeCounts(t *testing.T) {
	for name, o := range map[string]testmodel.Options{"llama": {Layers: 4, G: 4, Bias: true}, "gpt2": {Family: "gpt2", Layers: 4}, "qwen3": {Family: "qwen3", H: 4, G: 2, K: 32, Layers: 4}} {
		src := testmodel.New(o)
		m := describe(t, src.Config, src)
		s := randomScores(m, 4)
		target := Target{ByParams, 0.5, 0}
		shapes, err := Shapes(m, target, Rules{Hidden: true, Heads: true, FFN: true, Depth: true}, Wish{Most: 5})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range shapes {
			n, err := x.Counts(m, s)
			if err != nil {
				t.Fatal(err)
			}
			c, err := CutOf(m, n, s)
			if err != nil {
				t.Fatal(err)
			}
			v, small, err := View(src, m, c)
			if err != nil {
				t.Fatal(err)
			}
			share, ok := target.Reached(m, small)
			if !ok || small.NumParameters() != countValues(v) {
				t.Errorf("%s: %v has a share of %g", name, x, share)
			}
			if got := (Shape{small.D, small.Layers[0].G, small.Layers[0].F, len(small.Layers)}); got != x {
				t.Errorf("%s: %v is asked, %v made", name, x, got)
			}
			if e := Expect(m, 0, n.Expected()); e.Params.Value != float64(small.NumParameters()) {
				t.Errorf("%s: %g parameters expected, %d made", name, e.Params.Value, small.NumParameters())
			}
			checkBest(t, &c.Hidden, s.Hidden)
			for l := range c.Layers {
				if c.Layers[l].Drop {
					for k := range c.Layers {
						if !c.Layers[k].Drop && s.Layers[k].Layer < s.Layers[l].Layer {
							t.Errorf("%s: layer %d goes, and %d stays", name, l, k)
						}
					}
					continue
				}
				checkBest(t, &c.Layers[l].Heads, s.Layers[l].Heads)
				checkBest(t, &c.Layers[l].FFN, s.Layers[l].FFN)
			}
		}
	}
}

// checkBest reports a unit that stays while a better one goes.
func checkBest(t *testing.T, u *Units, scores []float64) {
	t.Helper()
	stays, goes := math.Inf(1), math.Inf(-1)
	for i, f := range u.factors(len(scores)) {
		if f != 0 {
			stays = min(stays, scores[i])
		} else {
			goes = max(goes, scores[i])
		}
	}
	if stays < goes {
		t.Errorf("a unit of %g stays, and one of %g goes", stays, goes)
	}
}

func TestEven(t *testing.T) {
	m := configured(t, testmodel.Llama135M())
	for _, c := range []struct {
		t Target
		r Rules
	}{
		{Target{ByParams, 0.5, 0}, Rules{Hidden: true, Heads: true, FFN: true, Depth: true}},
		{Target{ByFLOPs, 0.3, 4096}, Rules{Hidden: true, Heads: true, FFN: true}},
		{Target{ByParams, 0.8, 0}, Rules{Depth: true}},
		{Target{ByKV, 0.5, 0}, Rules{Hidden: true, Heads: true, Depth: true}},
	} {
		e, err := Even(m, c.t, c.r)
		if err != nil {
			t.Fatal(err)
		}
		x := Expected{Hidden: e.D, Layers: slices.Repeat([]ExpectedLayer{{e.Layers / 30, e.G, e.F}}, 30)}
		share := c.t.Soft(Expect(m, c.t.Length, x)).Value / c.t.Soft(Expect(m, c.t.Length, All(m))).Value
		if math.Abs(share-c.t.Share) > 1e-9 {
			t.Errorf("%+v: %+v has a share of %g", c.t, e, share)
		}
		if c.t.Metric == ByKV && (e.D != 576 || e.F != 1536 || e.Layers != 30 || math.Abs(e.G-1.5) > 1e-9) {
			t.Errorf("%+v", e)
		}
	}
	// The embedding alone costs more than this.
	if e, err := Even(m, Target{ByParams, 0.05, 0}, Rules{FFN: true}); err != nil || e.F > 1e-6 || e.D != 576 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestDefaultMultiples(t *testing.T) {
	for _, c := range []struct{ d, f, hidden, ffn int }{
		{4096, 11008, 128, 256}, {4096, 14336, 128, 256}, {2048, 5632, 128, 256}, {2048, 8200, 128, 128}, {1536, 8960, 64, 64}, {1024, 2816, 64, 64}, {576, 1536, 32, 32},
		{768, 3072, 32, 32}, {64, 192, 8, 8}, {8, 8, 8, 8},
	} {
		hidden, ffn := DefaultMultiples(&arch.Model{D: c.d, Layers: []arch.Layer{{F: 512}, {F: c.f}}})
		if hidden != c.hidden || ffn != c.ffn {
			t.Errorf("width %d, FFN %d: multiples of %d and %d, want %d and %d", c.d, c.f, hidden, ffn, c.hidden, c.ffn)
		}
	}
}

func TestShapesOfCache(t *testing.T) {
	m := configured(t, testmodel.Options{Layers: 4, G: 8})
	got, err := Shapes(m, Target{ByKV, 0.25, 0}, Rules{Hidden: true, Heads: true, FFN: true, Depth: true}, Wish{})
	want := []Shape{{64, 2, 192, 4}, {64, 4, 192, 2}, {64, 8, 192, 1}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestShapesRefuses(t *testing.T) {
	llama, gpt2 := configured(t, testmodel.Options{Layers: 3, G: 4}), configured(t, testmodel.Options{Family: "gpt2"})
	windows := llama.Clone()
	windows.Layers[1].Window = 7
	half := Target{ByParams, 0.5, 0}
	for _, c := range []struct {
		m    *arch.Model
		t    Target
		r    Rules
		want string
	}{
		{llama, Target{}, Rules{FFN: true}, "metric"},
		{llama, half, Rules{}, "nothing that params depends on may change"},
		{llama, Target{ByKV, 0.5, 0}, Rules{FFN: true, Hidden: true}, "nothing that kv depends on may change"},
		{llama, half, Rules{FFN: true, FFNMultiple: -8}, "multiples"},
		{gpt2, half, Rules{Hidden: true, FFN: true}, "both may change, or none"},
		{configured(t, testmodel.Named("llama-pruned").Options), half, Rules{FFN: true}, "layers 0 and 1 have other sizes"},
		{windows, Target{ByFLOPs, 0.5, 10}, Rules{FFN: true, Depth: true}, "layers 0 and 1 have other windows"},
		{configured(t, testmodel.Options{D: 1 << 20, H: 1, K: 64, F: 8, V: 8, Layers: 900}), half, Rules{Hidden: true, Depth: true, HiddenMultiple: 8}, "too many"},
	} {
		if got, err := Shapes(c.m, c.t, c.r, Wish{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v, %+v: %v, %v, want %q", c.t, c.r, got, err, c.want)
		}
	}
	if got, err := Shapes(windows, Target{ByFLOPs, 0.5, 10}, Rules{FFN: true, Hidden: true, Heads: true}, Wish{}); err != nil || len(got) == 0 {
		t.Errorf("windows that differ: %v", err)
	}
	for _, share := range []float64{0.01, 0.6, 0.05} {
		_, err := Shapes(llama, Target{ByParams, share, 0}, Rules{FFN: true}, Wish{})
		var e *TargetError
		if !errors.As(err, &e) {
			t.Errorf("%g: %v", share, err)
			continue
		}
		whole := float64(Count(llama, 0).Params)
		at := func(f int) float64 {
			return float64(Count(llama.Resize(64, slices.Repeat([]arch.LayerSize{{H: 8, G: 4, F: f}}, 3)), 0).Params) / whole
		}
		below, above := 0.0, at(8)
		for f := 8; f <= 192 && at(f) <= share; f += 8 {
			below, above = at(f), at(f+8)
		}
		if e.Below != below || e.Above != above {
			t.Errorf("%g: nearest are %g and %g, want %g and %g", share, e.Below, e.Above, below, above)
		}
	}
}
