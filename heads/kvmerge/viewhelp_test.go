package kvmerge

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

func viewModel(t testing.TB, src *testmodel.Model) *arch.Model {
	t.Helper()
	m, err := arch.Describe(src.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// viewCase returns a checkpoint whose biases and norms are large enough to be missed.
func viewCase(name string) *testmodel.Model {
	src := testmodel.Named(name)
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

// mergePlan is what a test merges, and by which maps.
type mergePlan struct {
	layers []Layer
	maps   []*Maps
}

func (p *mergePlan) load(l int) (*Maps, error) { return p.maps[l], nil }

// randomPlan merges random groups of t heads in every layer of m that has a multiple of t, by dense random maps.
func randomPlan(m *arch.Model, t, repeat int, seed uint64) *mergePlan {
	rnd := rand.New(rand.NewPCG(seed, 7))
	p := &mergePlan{make([]Layer, len(m.Layers)), make([]*Maps, len(m.Layers))}
	for l := range m.Layers {
		a := &m.Layers[l]
		if a.G == 0 || a.G%t != 0 {
			continue
		}
		groups := Contiguous(a.G, t)
		for i, h := range rnd.Perm(a.G) {
			groups[i/t][i%t] = h
		}
		if groups.Trivial() {
			groups[0], groups[1] = groups[1], groups[0]
		}
		p.layers[l] = Layer{groups, repeat}
		p.maps[l] = randomMaps(a, groups, rnd)
	}
	return p
}

func randomMaps(a *arch.Layer, groups Groups, rnd *rand.Rand) *Maps {
	s := Shape{H: a.H, G: a.G, K: a.K}
	m := &Maps{Shape: s, Groups: groups, Key: newSide(s), Value: newSide(s)}
	for _, maps := range [][][]float64{m.Key.Encode, m.Key.Decode, m.Value.Encode, m.Value.Decode} {
		for _, v := range maps {
			for i := range v {
				v[i] = rnd.NormFloat64()
			}
		}
	}
	return m
}

// identityMaps leave heads as they are.
func identityMaps(a *arch.Layer, groups Groups) *Maps {
	s := Shape{H: a.H, G: a.G, K: a.K}
	m := &Maps{Shape: s, Groups: groups, Key: newSide(s), Value: newSide(s)}
	for _, maps := range [][][]float64{m.Key.Encode, m.Key.Decode, m.Value.Encode, m.Value.Decode} {
		for _, v := range maps {
			for i := range a.K {
				v[i*a.K+i] = 1
			}
		}
	}
	return m
}

func viewThreads(k int) func(n int, body func(i int)) {
	return func(n int, body func(i int)) {
		var wg sync.WaitGroup
		for t := range k {
			wg.Go(func() {
				for i := n - 1 - t; i >= 0; i -= k {
					body(i)
				}
			})
		}
		wg.Wait()
	}
}

func viewBytes(t testing.TB, src formats.Source, name string) []byte {
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
