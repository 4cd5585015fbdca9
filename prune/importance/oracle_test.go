package importance

import (
	"math"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// models are smallest ones of every family, so that every single weight can be nudged.
func models() []testmodel.Case {
	base := testmodel.Options{D: 8, H: 4, K: 2, F: 6, V: 16, Context: 6, Seed: 41}
	with := func(f func(o *testmodel.Options)) testmodel.Options { o := base; f(&o); return o }
	return []testmodel.Case{
		{Name: "llama", Options: base},
		{Name: "llama-gqa-bias", Options: with(func(o *testmodel.Options) { o.G, o.Bias = 2, true })},
		{Name: "llama-tied", Options: with(func(o *testmodel.Options) { o.G, o.Tied = 1, true })},
		{Name: "llama-uneven", Options: with(func(o *testmodel.Options) {
			o.Layers, o.G = 4, 4
			o.PerLayer = map[int]testmodel.Sizes{1: {NoAttention: true}, 2: {H: 4, G: 2, F: 5}, 3: {NoFeedFwd: true}}
		})},
		{Name: "mistral-window", Options: with(func(o *testmodel.Options) { o.Family, o.G, o.Window = "mistral", 2, 3 })},
		{Name: "qwen2", Options: with(func(o *testmodel.Options) { o.Family, o.G = "qwen2", 2 })},
		{Name: "qwen3", Options: with(func(o *testmodel.Options) { o.Family, o.G, o.K = "qwen3", 2, 4 })},
		{Name: "gpt2", Options: with(func(o *testmodel.Options) { o.Family, o.F = "gpt2", 7 })},
	}
}

func describe(t testing.TB, src *testmodel.Model, threads int) *nn.Model {
	t.Helper()
	a, err := arch.Describe(src.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	return nn.New(deviceOf(threads), src, a)
}

// oracle is the transformer in float64, one loop after another, with weights that can be changed. It shares nothing with the
// package but the description of the model.
type oracle struct {
	m      *arch.Model
	values map[string][]float64
	skip   map[int]bool // layers that are left out
	// see, where set, gets the input of each site of a layer, [T, In], and the stream before and after a layer, [T, D].
	see   func(l int, s arch.Site, x []float64)
	layer func(l int, in, out []float64)
}

func newOracle(t testing.TB, src formats.Source, m *arch.Model) *oracle {
	t.Helper()
	o := &oracle{m: m, values: map[string][]float64{}, skip: map[int]bool{}}
	for _, p := range m.Parameters() {
		n := int64(1)
		for _, d := range p.Shape {
			n *= d
		}
		v := make([]float32, n)
		if err := formats.ReadF32(src, p.Name, v, 0); err != nil {
			t.Fatal(err)
		}
		w := make([]float64, n)
		for i, x := range v {
			w[i] = float64(x)
		}
		o.values[p.Name] = w
	}
	return o
}

// at is where element (out, in) of a projection is stored.
func at(l arch.Linear, out, in int) int {
	if l.Transposed {
		return in*l.StoredOut + l.Row + out
	}
	return (l.Row+out)*l.In + in
}

func (o *oracle) apply(l arch.Linear, x []float64, t int) []float64 {
	w, y := o.values[l.Weight], make([]float64, t*l.Out)
	for i := range t {
		for j := range l.Out {
			s := 0.0
			if l.Bias != "" {
				s = o.values[l.Bias][l.Row+j]
			}
			for c := range l.In {
				s += w[at(l, j, c)] * x[i*l.In+c]
			}
			y[i*l.Out+j] = s
		}
	}
	return y
}

func (o *oracle) norm(n arch.Norm, x []float64, width int) []float64 {
	w, y := o.values[n.Weight], make([]float64, len(x))
	for i := 0; i < len(x); i += width {
		mean, sq := 0.0, 0.0
		for _, v := range x[i : i+width] {
			if n.Bias != "" {
				mean += v / float64(width)
			}
		}
		for _, v := range x[i : i+width] {
			sq += (v - mean) * (v - mean) / float64(width)
		}
		for j, v := range x[i : i+width] {
			y[i+j] = (v - mean) / math.Sqrt(sq+float64(o.m.Eps)) * w[j]
			if n.Bias != "" {
				y[i+j] += o.values[n.Bias][j]
			}
		}
	}
	return y
}

func (o *oracle) rotate(x []float64, t, heads, k int) {
	for p := range t * heads {
		for j := range k / 2 {
			s, c := math.Sincos(float64(p/heads) * math.Pow(o.m.Rope.Theta, -2*float64(j)/float64(k)))
			a, b := x[p*k+j], x[p*k+j+k/2]
			x[p*k+j], x[p*k+j+k/2] = a*c-b*s, b*c+a*s
		}
	}
}

func (o *oracle) attention(a *arch.Layer, n []float64, t int) []float64 {
	q, k, v := o.apply(a.Linears[arch.Q], n, t), o.apply(a.Linears[arch.K], n, t), o.apply(a.Linears[arch.V], n, t)
	if a.QNorm.Present() {
		q, k = o.norm(a.QNorm, q, a.K), o.norm(a.KNorm, k, a.K)
	}
	if o.m.Rope != nil {
		o.rotate(q, t, a.H, a.K)
		o.rotate(k, t, a.G, a.K)
	}
	out, p := make([]float64, t*a.H*a.K), make([]float64, t)
	for h := range a.H {
		g := h / (a.H / a.G)
		for i := range t {
			sum := 0.0
			for j := range i + 1 {
				p[j] = 0
				if a.Window == 0 || i-j < a.Window {
					dot := 0.0
					for c := range a.K {
						dot += q[(i*a.H+h)*a.K+c] * k[(j*a.G+g)*a.K+c]
					}
					p[j] = math.Exp(dot / math.Sqrt(float64(a.K)))
					sum += p[j]
				}
			}
			for j := range i + 1 {
				for c := range a.K {
					out[(i*a.H+h)*a.K+c] += p[j] / sum * v[(j*a.G+g)*a.K+c]
				}
			}
		}
	}
	return out
}

func (o *oracle) activate(a *arch.Layer, n []float64, t int) []float64 {
	y := o.apply(a.Linears[arch.Up], n, t)
	if a.Linears[arch.Gate].Present() {
		for i, g := range o.apply(a.Linears[arch.Gate], n, t) {
			y[i] *= g / (1 + math.Exp(-g))
		}
		return y
	}
	for i, u := range y {
		y[i] = u / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(u+0.044715*u*u*u)))
	}
	return y
}

func (o *oracle) show(l int, s arch.Site, x []float64) []float64 {
	if o.see != nil {
		o.see(l, s, x)
	}
	return x
}

// logits returns [T, V].
func (o *oracle) logits(ids []int32) []float64 {
	t, d := len(ids), o.m.D
	x := make([]float64, t*d)
	for i, id := range ids {
		copy(x[i*d:], o.values[o.m.Embed][int(id)*d:][:d])
	}
	if o.m.PosEmbed != "" {
		add(x, o.values[o.m.PosEmbed][:t*d])
	}
	for l := range o.m.Layers {
		if o.skip[l] {
			continue
		}
		a, in := &o.m.Layers[l], append([]float64(nil), x...)
		if a.HasAttention() {
			n := o.show(l, arch.SiteQKV, o.norm(a.AttnNorm, x, d))
			add(x, o.apply(a.Linears[arch.O], o.show(l, arch.SiteO, o.attention(a, n, t)), t))
		}
		if a.HasFFN() {
			n := o.show(l, arch.SiteGateUp, o.norm(a.FFNNorm, x, d))
			add(x, o.apply(a.Linears[arch.Down], o.show(l, arch.SiteDown, o.activate(a, n, t)), t))
		}
		if o.layer != nil {
			o.layer(l, in, x)
		}
	}
	return o.apply(arch.Linear{Weight: o.m.LMHead, In: d, Out: o.m.V, StoredOut: o.m.V}, o.norm(o.m.FinalNorm, x, d), t)
}

// loss is the sum of the cross entropies of a window.
func (o *oracle) loss(ids []int32) float64 {
	logits, v, sum := o.logits(ids), o.m.V, 0.0
	for i, id := range ids[1:] {
		total := 0.0
		for _, x := range logits[i*v : (i+1)*v] {
			total += math.Exp(x)
		}
		sum += math.Log(total) - logits[i*v+int(id)]
	}
	return sum
}

// meanLoss is the cross entropy by token over all windows.
func (o *oracle) meanLoss(windows [][]int32) float64 {
	sum, n := 0.0, 0
	for _, ids := range windows {
		sum += o.loss(ids)
		n += len(ids) - 1
	}
	return sum / float64(n)
}

// TestOracle compares the oracle with the stock classes as testmodel has them.
func TestOracle(t *testing.T) {
	for _, c := range models() {
		src := testmodel.New(c.Options)
		ref, err := testmodel.NewReference(src.Config, src)
		if err != nil {
			t.Fatal(err)
		}
		m := describe(t, src, 1)
		ids := testmodel.Windows(1, 6, m.Arch.V, 3)[0]
		want, err := ref.Logits(ids)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range newOracle(t, src, m.Arch).logits(ids) {
			if !near(v, want[i], 1e-9) {
				t.Fatalf("%s: logit %d is %g, the stock class has %g", c.Name, i, v, want[i])
			}
		}
	}
}

// near reports whether a is b within a part of the larger of 1 and b.
func near(a, b, tol float64) bool { return math.Abs(a-b) <= tol*max(1, math.Abs(b)) }
