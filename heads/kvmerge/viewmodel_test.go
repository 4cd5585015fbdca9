package kvmerge

import (
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/num"
	"modelpress/internal/testmodel"
)

func viewLogits(t *testing.T, src formats.Source, m *arch.Model) []float32 {
	t.Helper()
	y, err := nn.New(cpu.New(2), src, m).Logits(testmodel.Windows(1, 40, m.V, 5)[0])
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// farthest returns the largest difference, relative to the root mean square of want.
func farthest(got, want []float32) float64 {
	var worst, sum float64
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
		sum += float64(want[i]) * float64(want[i])
	}
	return worst / math.Sqrt(sum/float64(len(want)))
}

// singles puts every head into a group of its own, in another order.
func singleGroups(g int, rnd *rand.Rand) Groups {
	out := Contiguous(g, 1)
	for out.Trivial() && g > 1 {
		for i, h := range rnd.Perm(g) {
			out[i] = []int{h}
		}
	}
	return out
}

// Heads in another order, their copies, and heads in other coordinates compute the same function.
func TestViewKeepsLogits(t *testing.T) {
	for _, c := range testmodel.Cases() {
		src := viewCase(c.Name)
		m := viewModel(t, src)
		want := viewLogits(t, src, m)
		for _, turned := range []bool{false, true} {
			rnd := rand.New(rand.NewPCG(9, 9))
			p := &mergePlan{make([]Layer, len(m.Layers)), make([]*Maps, len(m.Layers))}
			for l := range m.Layers {
				a := &m.Layers[l]
				if a.G < 2 {
					continue
				}
				p.layers[l] = Layer{singleGroups(a.G, rnd), 1}
				if turned && m.PosEmbed == "" && a.H > a.G {
					p.layers[l].Repeat = 2
				}
				p.maps[l] = identityMaps(a, p.layers[l].Groups)
				if turned {
					turnMaps(t, m, a, p.maps[l], rnd)
				}
			}
			v, n, err := View(src, m, p.layers, p.load, viewThreads(2))
			if err != nil {
				t.Fatal(err)
			}
			if d := farthest(viewLogits(t, v, n), want); !(d < 1e-5) {
				t.Errorf("%s, turned %t: logits differ by %.2g of their size", c.Name, turned, d)
			}
		}
	}
}

// turn replaces identities by invertible maps and their inverses: any for values and for keys without a rotary embedding, a
// complex number for each frequency under one. The norm of keys, where there is one, leaves no freedom but its own.
func turnMaps(t *testing.T, m *arch.Model, a *arch.Layer, maps *Maps, rnd *rand.Rand) {
	t.Helper()
	for g := range a.G {
		maps.Value.Encode[g], maps.Value.Decode[g] = orthogonalPair(t, a.K, rnd)
		if m.Rope == nil {
			maps.Key.Encode[g], maps.Key.Decode[g] = orthogonalPair(t, a.K, rnd)
			continue
		}
		if a.KNorm.Present() {
			continue
		}
		s := Shape{H: a.H, G: a.G, K: a.K, Rotary: a.K}
		for j := range s.Frequencies() {
			re, im := s.Pair(j)
			r, sin, cos := 0.5+rnd.Float64(), 0.0, 0.0
			sin, cos = math.Sincos(6 * rnd.Float64())
			e, d := maps.Key.Encode[g], maps.Key.Decode[g]
			e[re*a.K+re], e[re*a.K+im], e[im*a.K+re], e[im*a.K+im] = r*cos, -r*sin, r*sin, r*cos
			d[re*a.K+re], d[re*a.K+im], d[im*a.K+re], d[im*a.K+im] = cos/r, sin/r, -sin/r, cos/r
		}
	}
}

// orthogonalPair returns s·Q and its inverse Qᵀ/s for a product of random reflections Q.
func orthogonalPair(t *testing.T, k int, rnd *rand.Rand) (q, inverse []float64) {
	t.Helper()
	q = make([]float64, k*k)
	for i := range k {
		q[i*k+i] = 2
	}
	for range 3 {
		u, norm := make([]float64, k), 0.0
		for i := range u {
			u[i] = rnd.NormFloat64()
			norm += u[i] * u[i]
		}
		for r := range k {
			dot := 0.0
			for i := range k {
				dot += q[r*k+i] * u[i]
			}
			for i := range k {
				q[r*k+i] -= 2 * dot * u[i] / norm
			}
		}
	}
	inverse = make([]float64, k*k)
	for i := range k {
		for j := range k {
			inverse[j*k+i] = q[i*k+j] / 4
		}
	}
	one := make([]float64, k*k)
	num.GemmNN64(one, k, q, k, inverse, k, k, k, k, 1, 0, nil)
	for i := range k {
		if math.Abs(one[i*k+i]-1) > 1e-12 {
			t.Fatal("not an inverse")
		}
	}
	return q, inverse
}

// Heads that are equal can share without loss: half the sum of both stands for each.
func TestViewMergesEqualHeads(t *testing.T) {
	for _, name := range []string{"llama-mha", "llama-bias", "qwen2", "qwen3", "gpt2"} {
		src := viewCase(name)
		m := viewModel(t, src)
		p := &mergePlan{make([]Layer, len(m.Layers)), make([]*Maps, len(m.Layers))}
		for l := range m.Layers {
			a := &m.Layers[l]
			groups := make(Groups, a.G/2)
			for i := range groups {
				groups[i] = []int{i, a.G - 1 - i}
			}
			p.layers[l] = Layer{Groups: groups}
			if name == "gpt2" {
				p.layers[l].Repeat = 2
			}
			p.maps[l] = identityMaps(a, groups)
			for g := range a.G {
				for i := range a.K {
					p.maps[l].Key.Encode[g][i*a.K+i], p.maps[l].Value.Encode[g][i*a.K+i] = 0.5, 0.5
				}
			}
			for _, role := range []arch.Role{arch.K, arch.V} {
				mirrorHeads(t, src, a.Linears[role], a.G, a.K)
			}
		}
		want := viewLogits(t, src, m)
		v, n, err := View(src, m, p.layers, p.load, viewThreads(2))
		if err != nil {
			t.Fatal(err)
		}
		if d := farthest(viewLogits(t, v, n), want); !(d < 1e-5) {
			t.Errorf("%s: logits differ by %.2g of their size", name, d)
		}
	}
}

// mirrorHeads makes head G-1-g equal to head g.
func mirrorHeads(t *testing.T, src *testmodel.Model, lin arch.Linear, g, k int) {
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
		for o := range g / 2 * k {
			twin := (g-1-o/k)*k + o%k
			for i := range in {
				w[(lin.Row+twin)*stride+i*step] = w[(lin.Row+o)*stride+i*step]
			}
		}
		src.Set(name, w)
	}
}
