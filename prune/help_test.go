package prune

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

func describe(t testing.TB, config []byte, src formats.Source) *arch.Model {
	t.Helper()
	m, err := arch.Describe(config, src)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// spiced gives norms and biases values that are large enough to be missed.
func spiced(o testmodel.Options) *testmodel.Model {
	src := testmodel.New(o)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, info := range src.Tensors() {
		if len(info.Shape) != 1 {
			continue
		}
		v := make([]float32, info.Shape[0])
		for i := range v {
			v[i] = rnd.Float32() + 0.5
			if strings.HasSuffix(info.Name, "bias") {
				v[i]--
			}
		}
		src.Set(info.Name, v)
	}
	return src
}

// models are every family at depths from which layers can go, with what makes them differ.
func models() map[string]testmodel.Options {
	out := map[string]testmodel.Options{
		"three layers":  {Layers: 3, G: 4, Bias: true, Seed: 31},
		"gpt2, three":   {Family: "gpt2", Layers: 3, F: 96, Seed: 32},
		"qwen3, bf16":   {Family: "qwen3", Layers: 3, H: 4, G: 2, K: 32, DType: formats.BF16, Seed: 33},
		"mistral, tied": {Family: "mistral", Layers: 3, G: 2, Window: 16, Tied: true, DType: formats.F16, Seed: 34},
	}
	for _, c := range testmodel.Cases() {
		if !strings.HasPrefix(c.Name, "llama-rope") {
			out[c.Name] = c.Options
		}
	}
	return out
}

// randomUnits keeps count of n units.
func randomUnits(rnd *rand.Rand, n, count int, scale bool) Units {
	u := Units{Keep: rnd.Perm(n)[:count:count]}
	slices.Sort(u.Keep)
	if scale {
		for range count {
			u.Scale = append(u.Scale, (0.5+rnd.Float32())*float32(1-2*rnd.IntN(2)))
		}
	}
	return u
}

// randomCut leaves out some of everything; sub-layers and a layer as a whole where there are others.
func randomCut(m *arch.Model, seed uint64, scale bool) *Cut {
	rnd := rand.New(rand.NewPCG(seed, 3))
	c := &Cut{Hidden: randomUnits(rnd, m.D, m.D*3/4-5, scale), Layers: make([]CutLayer, len(m.Layers))}
	heads := 0
	if fused(m) {
		heads = m.Layers[0].G*3/4 - 1
		c.Hidden = randomUnits(rnd, m.D, heads*m.Layers[0].K, scale)
	}
	for l := range c.Layers {
		a, cl := &m.Layers[l], &c.Layers[l]
		if len(m.Layers) > 2 && l == 1 {
			cl.Drop = true
			continue
		}
		if scale {
			cl.Scale = []float32{0, 0.75, -1.5}[l%3]
		}
		if a.G > 0 {
			n := heads
			if n == 0 {
				n = 1 + rnd.IntN(a.G)
			}
			cl.Heads = randomUnits(rnd, a.G, n, scale)
		}
		if a.F > 0 {
			cl.FFN = randomUnits(rnd, a.F, 1+a.F/2+rnd.IntN(a.F/4), scale)
		}
	}
	if last := len(m.Layers) - 1; len(m.Layers) > 2 {
		if seed%2 == 0 && m.Layers[last].G > 0 {
			c.Layers[last].Heads = Units{Keep: []int{}}
		} else if m.Layers[last].F > 0 {
			c.Layers[last].FFN = Units{Keep: []int{}}
		}
	}
	return c
}

// table holds tensors as 64-bit floats.
type table struct {
	formats.Source
	values map[string][]float64
	shapes map[string][]int64
}

func (b *table) Lookup(name string) (formats.TensorInfo, bool) {
	_, ok := b.values[name]
	return formats.TensorInfo{Name: name, DType: formats.F64, Shape: b.shapes[name]}, ok
}

func (b *table) ReadAt(name string, p []byte, off int64) error {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], math.Float64bits(b.values[name][(int(off)+i)/8]))
	}
	return nil
}

func newTable(t testing.TB, src formats.Source) *table {
	b := &table{src, map[string][]float64{}, map[string][]int64{}}
	for _, info := range src.Tensors() {
		b.values[info.Name], b.shapes[info.Name] = values64(t, src, info), info.Shape
	}
	return b
}

// values64 reads a tensor without loss.
func values64(t testing.TB, src formats.Source, info formats.TensorInfo) []float64 {
	t.Helper()
	raw := bytesOf(t, src, info.Name)
	n := len(raw) / info.DType.Size()
	out, short := make([]float64, n), make([]float32, n)
	if info.DType == formats.F64 {
		for i := range out {
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
		}
		return out
	}
	if err := formats.Decode(short, raw, info.DType); err != nil {
		t.Fatal(err)
	}
	for i, v := range short {
		out[i] = float64(v)
	}
	return out
}

func bytesOf(t testing.TB, src formats.Source, name string) []byte {
	t.Helper()
	info, ok := src.Lookup(name)
	size, err := info.Bytes()
	if !ok || err != nil {
		t.Fatalf("%s: there %t, %v", name, ok, err)
	}
	b := make([]byte, size)
	if err := src.ReadAt(name, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// factors says by what each unit is multiplied: 0 for those that go.
func (u *Units) factors(n int) []float64 {
	f := make([]float64, n)
	for i := range u.count(n) {
		at, s := i, 1.0
		if u.Keep != nil {
			at = u.Keep[i]
		}
		if u.Scale != nil {
			s = float64(u.Scale[i])
		}
		f[at] = s
	}
	return f
}

// edited sets keys of a configuration.
func edited(t testing.TB, config []byte, keys map[string]any) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	for k, v := range keys {
		all[k] = v
	}
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// smallConfig writes the sizes of a model into the configuration of the one it comes from, layer by layer.
func smallConfig(t testing.TB, config []byte, n *arch.Model) []byte {
	k := n.ConfigKeys()
	set := map[string]any{k.Width: n.D, k.Layers: len(n.Layers)}
	layers := map[string]any{}
	for l := range n.Layers {
		a := &n.Layers[l]
		e, skip := map[string]any{}, []string{}
		switch {
		case !a.HasAttention():
			skip = append(skip, "attention")
		case k.KVHeads == "":
			set[k.Heads] = a.H
		default:
			e[k.Heads], e[k.KVHeads] = a.H, a.G
		}
		if a.HasFFN() {
			e[k.FFN] = a.F
		} else {
			skip = append(skip, "mlp")
		}
		e["skip"] = skip
		layers[fmt.Sprint(l)] = e
	}
	set["per_layer_config"] = layers
	return edited(t, config, set)
}

// distance returns the largest difference relative to the root mean square of want.
func distance[T float32 | float64](t testing.TB, got []T, want []float64) float64 {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d and %d values", len(got), len(want))
	}
	worst, sum := 0.0, 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i]) - w)
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst, sum = max(worst, d), sum+w*w
	}
	return worst / math.Sqrt(sum/float64(len(want)))
}
