package kvmerge

import (
	"context"
	"math/rand/v2"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// layerShape is the shape of a layer of m.
func layerShape(m *arch.Model, l int) Shape {
	a := &m.Layers[l]
	s := Shape{H: a.H, G: a.G, K: a.K}
	if m.Rope != nil {
		s.Rotary = a.K
	}
	return s
}

// modelStats collects the moments of every layer with attention over random windows of different lengths.
func modelStats(t testing.TB, src formats.Source, m *arch.Model) []*Stats {
	t.Helper()
	stats := make([]*Stats, len(m.Layers))
	for l := range stats {
		if !m.Layers[l].HasAttention() {
			continue
		}
		s := layerShape(m, l)
		freq := func(t int) []float32 { inv, _ := nn.InvFreq(m.Rope, s.K, t); return inv }
		if m.Rope == nil {
			freq = nil
		}
		stats[l] = NewStats(s, freq, nil, projection(t, src, m.Layers[l].Linears[arch.O]))
	}
	dev := cpu.New(2)
	windows := append(testmodel.Windows(3, 70, m.V, 8), testmodel.Windows(1, 33, m.V, 9)...)
	opt := nn.RunOptions{Pass: func(l, _ int) *nn.Pass {
		if stats[l] == nil {
			return nil
		}
		return &nn.Pass{TapHeads: func(q, k, v []float32, n int) bool {
			stats[l].Add(q, k, v, n, dev.For)
			return false
		}}
	}}
	if err := nn.New(dev, src, m).Run(context.Background(), windows, opt, nil); err != nil {
		t.Fatal(err)
	}
	return stats
}

// projection returns a weight [Out, In], whatever way it is stored.
func projection(t testing.TB, src formats.Source, lin arch.Linear) []float32 {
	t.Helper()
	m := logical(t, src, lin, false)
	out := make([]float32, len(m.v))
	for i, v := range m.v {
		out[i] = float32(v)
	}
	return out
}

// solvedPlan merges every layer of m in the given groups, by maps of its moments.
func solvedPlan(t testing.TB, m *arch.Model, stats []*Stats, groups func(g int) Groups, repeat int, w Ways) *mergePlan {
	t.Helper()
	p := &mergePlan{make([]Layer, len(m.Layers)), make([]*Maps, len(m.Layers))}
	for l := range m.Layers {
		if stats[l] == nil || m.Layers[l].G < 2 {
			continue
		}
		p.layers[l] = Layer{groups(m.Layers[l].G), repeat}
		maps, _, err := stats[l].Solve(p.layers[l].Groups, w, viewThreads(2))
		if err != nil {
			t.Fatal(err)
		}
		p.maps[l] = maps
	}
	return p
}

// randomGroups returns random groups of size heads each of g.
func randomGroups(g, size int, rnd *rand.Rand) Groups {
	out := Contiguous(g, size)
	for i, h := range rnd.Perm(g) {
		out[i/size][i%size] = h
	}
	return out
}
