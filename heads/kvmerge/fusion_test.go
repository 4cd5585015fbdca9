package kvmerge

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// plainLogits returns the logits of the float64 reference under hooks, [T, V].
func plainLogits(t *testing.T, config []byte, src formats.Source, hooks *projector, vocab int) []float64 {
	t.Helper()
	r, err := testmodel.NewReference(config, src)
	if err != nil {
		t.Fatal(err)
	}
	if hooks != nil {
		r.Heads, r.Out = hooks.heads, hooks.out
	}
	y, err := r.Logits(testmodel.Windows(1, 40, vocab, 5)[0])
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// projector does at run time, in plain loops, what the merged weights are to do: it projects keys and values to what a group
// shares, queries and outputs back.
type projector struct {
	*mergePlan
}

// project returns m·x, or mᵀ·x, added to dst.
func project(dst, m, x []float64, transposed bool) {
	k := len(x)
	for i := range k {
		for j := range k {
			f := m[i*k+j]
			if transposed {
				f = m[j*k+i]
			}
			dst[i] += f * x[j]
		}
	}
}

// eachPlace calls visit with every query head in the order of the groups: its place and KV head.
func (p *projector) eachPlace(m *Maps, visit func(place, h, g int)) {
	place, n := 0, m.Shape.H/m.Shape.G
	for _, members := range m.Groups {
		for _, g := range members {
			for h := g * n; h < (g+1)*n; h++ {
				visit(place, h, g)
				place++
			}
		}
	}
}

func (p *projector) heads(l int, q, k, v []float64, t int) (q2, k2, v2 []float64) {
	m := p.maps[l]
	if m == nil {
		return q, k, v
	}
	s, n := m.Shape, len(m.Groups)
	q2, k2, v2 = make([]float64, len(q)), make([]float64, t*n*s.K), make([]float64, t*n*s.K)
	for i := range t {
		head := func(x []float64, heads, h int) []float64 { return x[(i*heads+h)*s.K:][:s.K] }
		for j, members := range m.Groups {
			for _, g := range members {
				project(head(k2, n, j), m.Key.Encode[g], head(k, s.G, g), false)
				project(head(v2, n, j), m.Value.Encode[g], head(v, s.G, g), false)
			}
		}
		p.eachPlace(m, func(place, h, g int) {
			project(head(q2, s.H, place), m.Key.Decode[g], head(q, s.H, h), true)
		})
	}
	return q2, k2, v2
}

func (p *projector) out(l int, o []float64, t int) []float64 {
	m := p.maps[l]
	if m == nil {
		return o
	}
	s, out := m.Shape, make([]float64, len(o))
	for i := range t {
		p.eachPlace(m, func(place, h, g int) {
			project(out[(i*s.H+h)*s.K:][:s.K], m.Value.Decode[g], o[(i*s.H+place)*s.K:][:s.K], false)
		})
	}
	return out
}

// fusionWays lists the ways that a model allows: keys that a norm follows can only be chosen, not mixed.
func fusionWays(m *arch.Model) []Ways {
	var out []Ways
	for _, key := range Methods() {
		if m.Layers[0].KNorm.Present() && key != Select && key != First {
			continue
		}
		for _, value := range Methods() {
			if key == value || key == Select || value == PCA {
				out = append(out, Ways{key, value})
			}
		}
	}
	return out
}

// TestFusionIsExact: the merged checkpoint, read by the float64 reference with the new number of KV heads, computes what the
// original does when keys, values, queries and outputs of its heads are projected by the same maps at run time.
func TestFusionIsExact(t *testing.T) {
	for _, c := range []struct {
		name string
		per  []int // sizes of groups
	}{
		{"llama-mha", []int{2, 4, 8}}, {"llama-gqa", []int{2}}, {"llama-bias", []int{2, 4}}, {"llama-wide-heads", []int{2}},
		{"llama-rope-linear", []int{2}}, {"llama-rope-dynamic", []int{2}}, {"llama-rope-llama3", []int{2}}, {"llama-rope-yarn", []int{2}},
		{"mistral-swa", []int{2, 4}}, {"mistral-full", []int{4}}, {"qwen2", []int{2}}, {"qwen2-tied", []int{2}}, {"qwen3", []int{2}},
		{"gpt2", []int{2, 4, 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := viewCase(c.name)
			m := viewModel(t, src)
			stats := modelStats(t, src, m)
			plain := plainLogits(t, src.Config, src, nil, m.V)
			worst, least, merges := 0.0, 1e9, 0
			for _, size := range c.per {
				for _, w := range fusionWays(m) {
					rnd := rand.New(rand.NewPCG(uint64(size), 3))
					repeat := 0
					if m.PosEmbed != "" {
						repeat = size // the class has one number of heads
					}
					p := solvedPlan(t, m, stats, func(g int) Groups { return randomGroups(g, size, rnd) }, repeat, w)
					d, effect := fusionError(t, src, m, p, plain)
					if !(d <= 1e-9) {
						t.Errorf("groups of %d, %v: logits differ by %g", size, w, d)
					}
					worst, least, merges = max(worst, d), min(least, effect), merges+1
				}
			}
			// Without an effect of merging the comparison would say nothing.
			if !(least > 1e-2) {
				t.Errorf("merging changes logits by %g only", least)
			}
			t.Logf("%-18s %2d merges: logits differ by at most %.2g from projection at run time (by %.2g or more from the model)",
				c.name, merges, worst, least)
		})
	}
}

// fusionError returns how far logits of the merged checkpoint are from those of projection at run time, and how far these are from plain.
func fusionError(t *testing.T, src *testmodel.Model, m *arch.Model, p *mergePlan, plain []float64) (d, effect float64) {
	t.Helper()
	v, _, err := View(src, m, p.layers, p.load, viewThreads(2))
	if err != nil {
		t.Fatal(err)
	}
	want := plainLogits(t, src.Config, src, &projector{p}, m.V)
	got := plainLogits(t, mergedConfig(t, src.Config, m, p), v, nil, m.V)
	return apartBy(t, got, want), apartBy(t, want, plain)
}

// mergedConfig is config.json with the new number of KV heads, where the class has one.
func mergedConfig(t *testing.T, config []byte, m *arch.Model, p *mergePlan) []byte {
	t.Helper()
	if m.PosEmbed != "" {
		return config
	}
	return withKVHeads(t, config, p.layers[0].Written(m.Layers[0].G))
}

// Repeated heads share out the query heads of their group, also where the class has a number of KV heads.
func TestFusionOfRepeatedHeadsIsExact(t *testing.T) {
	src := viewCase("llama-bias")
	m := viewModel(t, src)
	stats := modelStats(t, src, m)
	plain := plainLogits(t, src.Config, src, nil, m.V)
	for _, repeat := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(repeat), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(4, 4))
			p := solvedPlan(t, m, stats, func(g int) Groups { return randomGroups(g, 2, rnd) }, repeat, Ways{PCA, PCA})
			if d, _ := fusionError(t, src, m, p, plain); !(d <= 1e-9) {
				t.Errorf("logits differ by %g", d)
			}
		})
	}
}

// TestGroupsOfOneKeepTheFunction: heads by themselves, in another order, through the maps of all methods.
func TestGroupsOfOneKeepTheFunction(t *testing.T) {
	for _, c := range testmodel.Cases() {
		src := viewCase(c.Name)
		m := viewModel(t, src)
		if m.Layers[0].G < 2 {
			continue // a head has no other place
		}
		stats := modelStats(t, src, m)
		want := viewLogits(t, src, m)
		for _, w := range []Ways{{PCA, PCA}, {Procrustes, Procrustes}, {Mean, Mean}, {First, Select}, {Select, First}} {
			rnd := rand.New(rand.NewPCG(6, 3))
			p := solvedPlan(t, m, stats, func(g int) Groups { return singleGroups(g, rnd) }, 0, w)
			v, n, err := View(src, m, p.layers, p.load, viewThreads(2))
			if err != nil {
				t.Fatal(err)
			}
			if d := farthest(viewLogits(t, v, n), want); !(d <= 1e-5) {
				t.Errorf("%s, %v: logits differ by %.2g of their size", c.Name, w, d)
			}
			if c.Name == "llama-pruned" {
				continue // no stock class
			}
			a, b := plainLogits(t, mergedConfig(t, src.Config, m, p), v, nil, m.V), plainLogits(t, src.Config, src, nil, m.V)
			if d := apartBy(t, a, b); !(d <= 1e-9) {
				t.Errorf("%s, %v: logits differ by %g in float64", c.Name, w, d)
			}
		}
	}
}
