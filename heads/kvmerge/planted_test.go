package kvmerge

import (
	"context"
	"testing"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// retrievers is a model whose layers have retrieval heads beside sink, local and duplicate-token heads.
func retrievers() *testmodel.Planted {
	return testmodel.Plant(testmodel.PlantedOptions{Layers: 2, H: 8, G: 8, K: 32, BOS: true, Noise: 0.3, Seed: 3, Places: []testmodel.Place{
		{Layer: 0, Head: 1, Kind: testmodel.Previous},
		{Layer: 1, Head: 0, Kind: testmodel.Induction}, {Layer: 1, Head: 2, Kind: testmodel.Induction},
		{Layer: 1, Head: 5, Kind: testmodel.Induction}, {Layer: 1, Head: 7, Kind: testmodel.Induction},
		{Layer: 1, Head: 1, Kind: testmodel.Echo}, {Layer: 1, Head: 6, Kind: testmodel.Echo}, {Layer: 1, Head: 3, Kind: testmodel.Local}, {Layer: 1, Head: 4, Kind: testmodel.Sink},
	}})
}

// mergedBy merges all layers of a model after the moments of windows, with groups that find gives.
func mergedBy(t *testing.T, src formats.Source, m *arch.Model, windows [][]int32, w Ways, find func(l int, st *Stats) Groups) *nn.Model {
	t.Helper()
	dev := cpu.New(2)
	model := nn.New(dev, src, m)
	stats := make([]*Stats, len(m.Layers))
	for l := range stats {
		b, err := model.LoadBlock(l)
		if err != nil {
			t.Fatal(err)
		}
		wo, err := b.Weight(arch.O)
		if err != nil {
			t.Fatal(err)
		}
		b.Free()
		a := &m.Layers[l]
		stats[l] = NewStats(Shape{H: a.H, G: a.G, K: a.K, Rotary: a.K}, func(t int) []float32 { f, _ := nn.InvFreq(m.Rope, a.K, t); return f }, nil, wo)
	}
	err := model.Run(context.Background(), windows, nn.RunOptions{Pass: func(l, _ int) *nn.Pass {
		return &nn.Pass{TapHeads: func(q, k, v []float32, t int) bool {
			stats[l].Add(q, k, v, t, dev.For)
			return false
		}}
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, maps := make([]Layer, len(stats)), make([]*Maps, len(stats))
	for l, st := range stats {
		layers[l].Groups = find(l, st)
		if maps[l], _, err = st.Solve(layers[l].Groups, w, dev.For); err != nil {
			t.Fatal(err)
		}
	}
	view, merged, err := View(src, m, layers, func(l int) (*Maps, error) { return maps[l], nil }, dev.For)
	if err != nil {
		t.Fatal(err)
	}
	return nn.New(dev, view, merged)
}

// TestRetrievalHeadsStayApart: four retrieval heads of a layer of eight, merged to half. Where each shares with its neighbour, which does
// not retrieve, the model forgets how to answer. Kept apart by class it answers as before, and so it does here by cost alone.
func TestRetrievalHeadsStayApart(t *testing.T) {
	p := retrievers()
	m, err := arch.Describe(p.Config, p)
	if err != nil {
		t.Fatal(err)
	}
	var prompts []calib.Prompt
	for _, q := range p.Prompts(60, 96, 4, 5) {
		prompts = append(prompts, calib.Prompt{IDs: q.IDs, Answer: q.Answer, NeedleLo: q.NeedleLo, NeedleHi: q.NeedleHi})
	}
	var windows [][]int32
	for _, q := range p.Prompts(24, 96, 4, 11) {
		windows = append(windows, q.IDs[:len(q.IDs)-1]) // the question is cut off: nothing is to be retrieved
	}
	w := Ways{PCA, PCA}
	accuracy := func(model *nn.Model) float64 {
		r, err := calib.Retrieval(context.Background(), model, prompts, calib.EvalOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Accuracy
	}
	classes := func(l int) []int {
		out := make([]int, 8)
		for h, r := range p.Retrieval[l] {
			if r {
				out[h] = 1
			}
		}
		return out
	}
	found := func(classes func(l int) []int) func(l int, st *Stats) Groups {
		return func(l int, st *Stats) Groups {
			groups, _ := Grouping{N: 8, T: 2, Class: classes(l), Cost: func(members []int) float64 {
				c, err := st.Cost(members, w)
				if err != nil {
					t.Error(err)
				}
				return c
			}}.Solve()
			return groups
		}
	}
	dense := accuracy(nn.New(cpu.New(2), p, m))
	mixed := accuracy(mergedBy(t, p, m, windows, w, func(int, *Stats) Groups { return Contiguous(8, 2) }))
	cost := accuracy(mergedBy(t, p, m, windows, w, found(func(int) []int { return nil })))
	apart := accuracy(mergedBy(t, p, m, windows, w, found(classes)))
	t.Logf("needle accuracy: dense %.2f; merged to half with neighbours %.2f, by cost alone %.2f, by cost and class %.2f", dense, mixed, cost, apart)
	if dense < 0.99 || apart < dense || mixed > 0.1 {
		t.Error("want dense and apart to answer, mixed not to")
	}
}
