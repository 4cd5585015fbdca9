package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// gradModels are smallest models of every family, so that every single parameter can be nudged.
func gradModels() []testmodel.Case {
	base := testmodel.Options{D: 8, H: 4, K: 2, F: 12, V: 24, Context: 6, Seed: 31}
	with := func(f func(o *testmodel.Options)) testmodel.Options { o := base; f(&o); return o }
	return []testmodel.Case{
		{Name: "llama", Options: base},
		{Name: "llama-gqa-bias", Options: with(func(o *testmodel.Options) { o.G, o.Bias = 2, true })},
		{Name: "llama-tied", Options: with(func(o *testmodel.Options) { o.G, o.Tied = 1, true })},
		{Name: "llama-uneven", Options: with(func(o *testmodel.Options) {
			o.Layers, o.G = 4, 4
			o.PerLayer = map[int]testmodel.Sizes{1: {NoAttention: true}, 2: {H: 4, G: 2, F: 10}, 3: {NoFeedFwd: true}}
		})},
		{Name: "mistral-window", Options: with(func(o *testmodel.Options) { o.Family, o.G, o.Window = "mistral", 2, 3 })},
		{Name: "qwen2", Options: with(func(o *testmodel.Options) { o.Family, o.G = "qwen2", 2 })},
		{Name: "qwen3", Options: with(func(o *testmodel.Options) { o.Family, o.G, o.K = "qwen3", 2, 4 })},
		{Name: "gpt2", Options: with(func(o *testmodel.Options) { o.Family, o.F = "gpt2", 16 })},
	}
}

// gradCase is a sum of cross entropies over two windows, its gradients by the package, and an oracle to take differences with.
type gradCase struct {
	t       *testing.T
	m       *Model
	o       *oracle
	windows [][]int32
	layers  []*BlockGrads
	head    *HeadGrads
	embed   []float64 // gradient by the embedding [V, D], or by positions
	places  []float64
	worst   float64
	checked int
}

func newGradCase(t *testing.T, o testmodel.Options) *gradCase {
	src := testmodel.New(o)
	m := describe(t, src, cpu.New(2))
	c := &gradCase{t: t, m: m, o: &oracle{t: t, src: src, m: m.Arch}, windows: testmodel.Windows(2, 5, m.Arch.V, 5)}
	c.embed, c.places = make([]float64, m.Arch.V*m.Arch.D), make([]float64, m.Arch.MaxPosition*m.Arch.D)
	for l := range m.Arch.Layers {
		g, err := m.NewBlockGrads(l)
		if err != nil {
			t.Fatal(err)
		}
		c.layers = append(c.layers, g)
	}
	var err error
	if c.head, err = m.NewHeadGrads(); err != nil {
		t.Fatal(err)
	}
	return c
}

// loss is the oracle's.
func (c *gradCase) loss() float64 {
	sum, v := 0.0, c.m.Arch.V
	for _, ids := range c.windows {
		logits := c.o.logits(ids)
		for i, id := range ids[1:] {
			row, total := logits[i*v:(i+1)*v], 0.0
			for _, x := range row {
				total += math.Exp(x)
			}
			sum += math.Log(total) - row[id]
		}
	}
	return sum
}

// back takes the same loss back through the package.
func (c *gradCase) back(opt BackOptions) {
	d := c.m.Arch.D
	opt.Grads = func(l int) *BlockGrads { return c.layers[l] }
	grad := opt.Grad
	opt.Grad = func(l, w int, g []float32) error {
		if grad != nil {
			if err := grad(l, w, g); err != nil {
				return err
			}
		}
		if l > 0 {
			return nil
		}
		var z []float32
		if opt.EmbedGate != nil {
			z = opt.EmbedGate(w)
		}
		for i, id := range c.windows[w] {
			for j := range d {
				v := float64(g[i*d+j])
				if z != nil {
					v *= float64(z[j])
				}
				c.embed[int(id)*d+j] += v
				c.places[i*d+j] += v
			}
		}
		return nil
	}
	err := c.m.Back(c.t.Context(), c.windows, opt, func(w int, hidden, grad []float32) error {
		targets := c.windows[w][1:]
		n := len(targets)
		return c.m.HeadLogitsGrad(grad[:n*d], hidden, n, 4, c.head, func(row0 int, l *Logits) error {
			_, err := c.m.crossEntropy(0, l, targets[row0:row0+l.Rows])
			return err
		})
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// differ compares gradients with central differences by every one of the values. Errors are relative to the difference, or to a
// tenth of the largest one where that is more. A gradient that is zero, as that by a key's bias, which moves all scores of a row
// alike, is zero to 1e-6.
func (c *gradCase) differ(what string, values, grad []float64) {
	c.t.Helper()
	c.differAt(what, values, grad, func(i int) int { return i })
}

// differAt is differ for values that lie elsewhere in a tensor.
func (c *gradCase) differAt(what string, values, grad []float64, at func(i int) int) {
	c.t.Helper()
	want, most := make([]float64, len(grad)), 0.0
	for i := range grad {
		const h = 1e-5
		v := &values[at(i)]
		was := *v
		*v = was + h
		up := c.loss()
		*v = was - h
		want[i] = (up - c.loss()) / (2 * h)
		*v = was
		most = max(most, math.Abs(want[i]))
	}
	for i, w := range want {
		rel := math.Abs(grad[i]-w) / max(math.Abs(w), 0.1*most, 0.01)
		if !(rel <= 1e-4) {
			c.t.Errorf("%s: gradient %d is %g, differences give %g (largest %g)", what, i, grad[i], w, most)
			return
		}
		c.worst = max(c.worst, rel)
	}
	c.checked += len(grad)
}

func (c *gradCase) param(what, weight, bias string, p ParamGrad) {
	if weight == "" {
		return
	}
	c.differ(what, c.o.vector(weight), c.down(p.W))
	if bias != "" {
		c.differ(what+" bias", c.o.vector(bias), c.down(p.B))
	}
}

func (c *gradCase) down(b device.Buf) []float64 {
	out := make([]float32, b.Len())
	c.m.Dev.Download(out, b, 0)
	return doubles(out)
}

// all checks every parameter of the model.
func (c *gradCase) all() {
	a := c.m.Arch
	for l := range a.Layers {
		layer, g := &a.Layers[l], c.layers[l]
		for r, lin := range layer.Linears {
			if lin.Present() {
				c.linear(fmt.Sprintf("layer %d %s", l, arch.Role(r)), lin, g.Linears[r])
			}
		}
		for i, n := range []arch.Norm{layer.AttnNorm, layer.FFNNorm, layer.QNorm, layer.KNorm} {
			c.param(fmt.Sprintf("layer %d norm %d", l, i), n.Weight, n.Bias, g.norm(i))
		}
	}
	c.param("final norm", a.FinalNorm.Weight, a.FinalNorm.Bias, c.head.Norm)
	head := c.down(c.head.W)
	if a.Tied {
		add(c.embed, head)
	} else {
		c.differ("head", c.o.vector(a.LMHead), head)
	}
	c.differ("embedding", c.o.vector(a.Embed), c.embed)
	if a.PosEmbed != "" {
		c.differ("positions", c.o.vector(a.PosEmbed), c.places)
	}
}

// linear checks a projection in its logical form, of which the stored tensor may hold several, transposed.
func (c *gradCase) linear(what string, lin arch.Linear, p ParamGrad) {
	stored, grad := c.o.vector(lin.Weight), c.down(p.W)
	if !lin.Transposed {
		c.differ(what, stored, grad)
	} else {
		c.differAt(what, stored, grad, func(i int) int { return i%lin.In*lin.StoredOut + lin.Row + i/lin.In })
	}
	if lin.Bias != "" {
		c.differ(what+" bias", c.o.vector(lin.Bias)[lin.Row:lin.Row+lin.Out], c.down(p.B))
	}
}

// Every parameter of every family, against central differences of an independent float64 model.
func TestGradsOfEveryParameter(t *testing.T) {
	for _, m := range gradModels() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			c := newGradCase(t, m.Options)
			c.back(BackOptions{})
			c.all()
			t.Logf("%d parameters, largest relative error %.2g", c.checked, c.worst)
		})
	}
}

// gateSet is gates of a model, for the oracle and for the package, with sums of gradients.
type gateSet struct {
	embed  []float64
	layers []oracleGates
	grads  []Gates
	dEmbed []float64
	width  float64
	keep   []float64
}

func newGateSet(m *arch.Model, rng *rand.Rand) *gateSet {
	vector := func(n int) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = float64(float32(1 + 0.4*rng.NormFloat64()))
		}
		return out
	}
	s := &gateSet{embed: vector(m.D), dEmbed: make([]float64, m.D), width: float64(m.D) - 3, keep: vector(m.D)}
	for l := range m.Layers {
		a := &m.Layers[l]
		s.layers = append(s.layers, oracleGates{vector(m.D), vector(a.G), vector(a.F)})
		s.grads = append(s.grads, Gates{GradHidden: make([]float64, m.D), GradHeads: make([]float64, a.G), GradFFN: make([]float64, a.F)})
	}
	return s
}

func floats(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// gates returns those of a layer.
func (s *gateSet) gates(l int) *Gates {
	g, o := s.grads[l], s.layers[l]
	g.Hidden, g.Heads, g.FFN = floats(o.hidden), floats(o.heads), floats(o.ffn)
	return &g
}

// Every gate of every family, and every parameter under gates and masked norms.
func TestGradsOfGates(t *testing.T) {
	for _, m := range gradModels() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			c := newGradCase(t, m.Options)
			s := newGateSet(c.m.Arch, rand.New(rand.NewPCG(7, 8)))
			c.m.Kept = &KeptChannels{Width: float32(s.width), Keep: floats(s.keep)}
			c.o.gates, c.o.embedGate, c.o.width, c.o.keep = s.layers, s.embed, s.width, s.keep
			table, d := c.o.vector(c.m.Arch.Embed), c.m.Arch.D
			c.back(BackOptions{
				EmbedGate: func(int) []float32 { return floats(s.embed) },
				Gates:     func(l, _ int) *Gates { return s.gates(l) },
				Grad: func(l, w int, g []float32) error {
					for i, id := range c.windows[w] {
						for j := 0; j < d && l == 0; j++ {
							x := table[int(id)*d+j]
							if c.m.Arch.PosEmbed != "" {
								x += c.o.vector(c.m.Arch.PosEmbed)[i*d+j]
							}
							s.dEmbed[j] += float64(g[i*d+j]) * x
						}
					}
					return nil
				}})
			c.differ("embedding's gates", s.embed, s.dEmbed)
			for l := range s.layers {
				a := &c.m.Arch.Layers[l]
				c.differ(fmt.Sprintf("layer %d hidden gates", l), s.layers[l].hidden, s.grads[l].GradHidden)
				if a.HasAttention() {
					c.differ(fmt.Sprintf("layer %d head gates", l), s.layers[l].heads, s.grads[l].GradHeads)
				}
				if a.HasFFN() {
					c.differ(fmt.Sprintf("layer %d FFN gates", l), s.layers[l].ffn, s.grads[l].GradFFN)
				}
			}
			gates := c.checked
			c.all()
			t.Logf("%d gates, %d parameters, largest relative error %.2g", gates, c.checked-gates, c.worst)
		})
	}
}
