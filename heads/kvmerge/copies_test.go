package kvmerge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// symmetry is what a copy of a head differs by.
type symmetry string

const (
	equal   symmetry = "equal"
	turned  symmetry = "turned"  // values by a rotation, keys by a phase at each frequency
	skewed  symmetry = "skewed"  // values by any invertible matrix, keys by any complex number at each frequency
	keyless symmetry = "keyless" // turned values, equal keys: where a norm follows keys
)

// drawCopies makes the heads of each group images of its first member, in every layer.
func drawCopies(t *testing.T, src *testmodel.Model, m *arch.Model, groups Groups, kind symmetry, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 15))
	for l := range m.Layers {
		a := &m.Layers[l]
		for _, members := range groups {
			for _, g := range members[1:] {
				key, value := scaledIdentity(a.K, 1), scaledIdentity(a.K, 1)
				if kind != equal {
					value = drawSymmetry(rnd, a.K, kind)
				}
				switch {
				case kind == equal || kind == keyless:
				case m.Rope == nil:
					key = drawSymmetry(rnd, a.K, kind)
				default:
					key = drawPhases(rnd, layerShape(m, l), kind)
				}
				copyHead(t, src, a.Linears[arch.K], a.K, members[0], g, key)
				copyHead(t, src, a.Linears[arch.V], a.K, members[0], g, value)
			}
		}
	}
}

// drawSymmetry draws an invertible matrix, a rotation unless it is to be skewed.
func drawSymmetry(rnd *rand.Rand, k int, kind symmetry) []float64 {
	q := randomRotation(rnd, k)
	if kind == skewed {
		for i := range k {
			scale64(q[i*k:][:k], math.Exp(0.5*rnd.NormFloat64()))
		}
	}
	return q
}

func drawPhases(rnd *rand.Rand, s Shape, kind symmetry) []float64 {
	out := make([]float64, s.K*s.K)
	for j := range s.Frequencies() {
		re, im := plainPair(s, j)
		sin, cos := math.Sincos(6 * rnd.Float64())
		if kind == skewed {
			f := math.Exp(0.5 * rnd.NormFloat64())
			sin, cos = f*sin, f*cos
		}
		out[re*s.K+re], out[re*s.K+im], out[im*s.K+re], out[im*s.K+im] = cos, -sin, sin, cos
	}
	return out
}

// copyHead makes head to of a projection, with its bias, the image of head from under f.
func copyHead(t *testing.T, src *testmodel.Model, lin arch.Linear, k, from, to int, f []float64) {
	t.Helper()
	for _, name := range []string{lin.Weight, lin.Bias} {
		if name == "" {
			continue
		}
		w, err := src.Values(name)
		if err != nil {
			t.Fatal(err)
		}
		in, stride, step := lin.In, lin.In, 1
		if name == lin.Bias {
			in, stride = 1, 1
		} else if lin.Transposed {
			stride, step = 1, lin.StoredOut
		}
		for i := range in {
			x, y := make([]float64, k), make([]float64, k)
			for o := range k {
				x[o] = float64(w[(lin.Row+from*k+o)*stride+i*step])
			}
			project(y, f, x, false)
			for o := range k {
				w[(lin.Row+to*k+o)*stride+i*step] = float32(y[o])
			}
		}
		src.Set(name, w)
	}
}

// TestCopiesMergeWithoutLoss: heads that differ by a symmetry share one head, and the model stays the same. Methods that do not know
// the symmetry change it.
func TestCopiesMergeWithoutLoss(t *testing.T) {
	all := []Method{PCA, Procrustes, Mean, First, Select}
	cases := map[symmetry]struct{ exact, others []Ways }{
		equal: {exact: squared(all)},
		turned: {exact: squared([]Method{PCA, Procrustes}),
			others: []Ways{{PCA, Mean}, {Mean, PCA}, {First, Procrustes}, {Procrustes, Select}}},
		skewed: {exact: []Ways{{PCA, PCA}}, others: []Ways{{PCA, Procrustes}, {Procrustes, PCA}}},
		keyless: {exact: []Ways{{Select, PCA}, {First, Procrustes}},
			others: []Ways{{Select, Mean}}},
	}
	for _, c := range []struct {
		name string
		size int
	}{{"llama-mha", 2}, {"llama-mha", 4}, {"llama-bias", 2}, {"llama-rope-llama3", 2}, {"qwen2", 2}, {"mistral-swa", 4}, {"gpt2", 2}, {"qwen3", 2}} {
		kinds := []symmetry{equal, turned, skewed}
		if c.name == "qwen3" {
			kinds = []symmetry{keyless}
		}
		for _, kind := range kinds {
			src := viewCase(c.name)
			m := viewModel(t, src)
			groups := randomGroups(m.Layers[0].G, c.size, rand.New(rand.NewPCG(uint64(c.size), 16)))
			drawCopies(t, src, m, groups, kind, 1)
			stats := modelStats(t, src, m)
			plain := plainLogits(t, src.Config, src, nil, m.V)
			run := func(w Ways) float64 { return mergedApart(t, src, m, stats, groups, w, plain) }
			worst := 0.0
			for _, w := range cases[kind].exact {
				d := run(w)
				if worst = max(worst, d); !(d <= 1e-4) {
					t.Errorf("%s, groups of %d, %s, %v: logits differ by %g", c.name, c.size, kind, w, d)
				}
			}
			least := math.Inf(1)
			for _, w := range cases[kind].others {
				d := run(w)
				if least = min(least, d); !(d > 1e-2) {
					t.Errorf("%s, groups of %d, %s, %v: logits differ by %g only", c.name, c.size, kind, w, d)
				}
			}
			t.Logf("%-18s groups of %d, %s: logits differ by at most %.2g, by methods that do not know the symmetry at least %.2g",
				c.name, c.size, kind, worst, least)
		}
	}
}

// squared lists all pairs of methods.
func squared(methods []Method) []Ways {
	var out []Ways
	for _, k := range methods {
		for _, v := range methods {
			out = append(out, Ways{k, v})
		}
	}
	return out
}

// mergedApart merges groups in all layers and returns how far logits are from plain.
func mergedApart(t *testing.T, src *testmodel.Model, m *arch.Model, stats []*Stats, groups Groups, w Ways, plain []float64) float64 {
	t.Helper()
	repeat := 0
	if m.PosEmbed != "" {
		repeat = len(groups[0])
	}
	p := solvedPlan(t, m, stats, func(int) Groups { return groups }, repeat, w)
	v, _, err := View(src, m, p.layers, p.load, nil)
	if err != nil {
		t.Fatal(err)
	}
	return apartBy(t, plainLogits(t, mergedConfig(t, src.Config, m, p), v, nil, m.V), plain)
}

// TestGroupingFindsCopies: the costs of the moments tell which heads are copies of each other.
func TestGroupingFindsCopies(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
		kind symmetry
		ways []Ways
	}{
		{"llama-mha", 2, equal, squared(Methods())}, {"llama-mha", 4, equal, []Ways{{Mean, Mean}, {Select, First}}},
		{"llama-mha", 2, turned, []Ways{{PCA, PCA}, {Procrustes, Procrustes}}}, {"llama-mha", 4, turned, []Ways{{PCA, PCA}, {Procrustes, Procrustes}}},
		{"llama-mha", 2, skewed, []Ways{{PCA, PCA}}}, {"llama-mha", 4, skewed, []Ways{{PCA, PCA}}}, {"llama-bias", 2, turned, []Ways{{PCA, Procrustes}}},
		{"gpt2", 4, skewed, []Ways{{PCA, PCA}}}, {"gpt2", 2, turned, []Ways{{Procrustes, Procrustes}}},
	} {
		t.Run(fmt.Sprintf("%s, %s, groups of %d", c.name, c.kind, c.size), func(t *testing.T) {
			src := viewCase(c.name)
			m := viewModel(t, src)
			n := m.Layers[0].G
			planted := randomGroups(n, c.size, rand.New(rand.NewPCG(uint64(len(c.kind)), 17)))
			drawCopies(t, src, m, planted, c.kind, 2)
			for l, st := range modelStats(t, src, m) {
				for _, w := range c.ways {
					g := Grouping{N: n, T: c.size, Par: viewThreads(2), Cost: func(members []int) float64 {
						cost, err := st.Cost(members, w)
						if err != nil {
							panic(err)
						}
						return cost
					}}
					groups, found := g.Solve()
					if !reflect.DeepEqual(groups, canonical(planted)) {
						t.Errorf("layer %d, %v: groups %v, planted %v", l, w, groups, planted)
					}
					_, lost, err := st.Solve(groups, w, nil)
					if err != nil {
						t.Fatal(err)
					}
					if math.Abs(lost.Output-found.Cost) > 1e-9*lost.Had {
						t.Errorf("layer %d, %v: the grouping costs %g, its maps %g", l, w, found.Cost, lost.Output)
					}
					if !(lost.Output <= 1e-5*lost.Had) || !(lost.Key <= 1e-5) || !(lost.Value <= 1e-5) {
						t.Errorf("layer %d, %v: %+v", l, w, lost)
					}
				}
			}
		})
	}
}
