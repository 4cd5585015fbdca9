package heads

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sort"
	"testing"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// deeper are models of several layers of the families that have no sliding window.
func deeper(name string) *testmodel.Model {
	for _, c := range testmodel.Cases() {
		if c.Name == name {
			c.Options.Layers = max(c.Options.Layers, 5)
			return testmodel.New(c.Options)
		}
	}
	panic(name)
}

// TestFindTidalAgainstTheMatrix recomputes the recall of every pair of layers by whole, sorted rows.
func TestFindTidalAgainstTheMatrix(t *testing.T) {
	for _, name := range []string{"llama-gqa", "llama-mha", "qwen3", "gpt2", "llama-pruned"} {
		t.Run(name, func(t *testing.T) {
			model := deeper(name)
			w := mixedWindows(model)
			opt := TidalOptions{Budget: 12, Window: 3, Rows: 20, Dense: 1, Selections: 2}
			got := everyThreads(t, model, func(m *nn.Model) *Tidal {
				r, err := FindTidal(context.Background(), m, w, opt)
				if err != nil {
					t.Fatal(err)
				}
				return r
			})
			m := open(t, model)
			weights := make([]map[[3]int][]float64, len(m.Arch.Layers)) // [layer][window, KV head, row]
			tap := func(layer, window int, r rows) {
				r.Read(everything)
				if weights[layer] == nil {
					weights[layer] = map[[3]int][]float64{}
				}
				s := r.Shape
				for h := range s.H {
					a := matrix(r.AttnState, h, device.Mask{})
					for i := max(s.T-opt.Rows, opt.Budget); i < s.T; i++ {
						at := [3]int{window, h / (s.H / s.G), i}
						if weights[layer][at] == nil {
							weights[layer][at] = make([]float64, i+1)
						}
						for j := range weights[layer][at] {
							weights[layer][at][j] += a[i][j]
						}
					}
				}
			}
			if err := (Options{}).observe(context.Background(), m, w.IDs, tap, nil); err != nil {
				t.Fatal(err)
			}
			picked := func(v []float64) []int {
				order := make([]int, len(v)-opt.Window)
				for j := range order {
					order[j] = j
				}
				sort.SliceStable(order, func(a, b int) bool { return v[order[a]] > v[order[b]] })
				order = order[:opt.Budget-opt.Window]
				for j := len(v) - opt.Window; j < len(v); j++ {
					order = append(order, j)
				}
				return order
			}
			may := tidalLayers(m.Arch, opt.Dense)
			for s := range m.Arch.Layers {
				for l := range m.Arch.Layers {
					want := 0.0
					if in(may, s) && in(may, l) && s < l && m.Arch.Layers[s].G == m.Arch.Layers[l].G {
						for at, v := range weights[l] {
							var own, shared float64
							for _, j := range picked(v) {
								own += v[j]
							}
							for _, j := range picked(weights[s][at]) {
								shared += v[j]
							}
							want += shared / own / float64(len(weights[l]))
						}
					}
					closeTo(t, "recall", s, l, got.Recall[s][l], want)
				}
			}
			p := Draft(m.Arch)
			if err := got.Write(p, m.Arch, record); err != nil {
				t.Fatal(err)
			}
			sound(t, p)
			checkTidalPlan(t, p, got, may)
		})
	}
}

func in(list []int, v int) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

func checkTidalPlan(t *testing.T, p *manifest.Plan, got *Tidal, may []int) {
	t.Helper()
	selecting := 0
	for l, e := range p.Layers {
		if e.Select == "tokens" {
			selecting++
		}
		for g := range e.KVHeads {
			pol, _ := p.Resolve(l, g, manifest.Decoding, 100)
			if shares := e.ShareAttentionWith != nil; shares != (pol.Kind == manifest.KindTokenTopK) || shares && (pol.Budget != 12 || pol.Window != 3) {
				t.Errorf("layer %d: %+v, shares %v", l, pol, shares)
			}
		}
		if !in(may, l) && (e.Select != "none" || e.ShareAttentionWith != nil) {
			t.Errorf("layer %d takes part", l)
		}
	}
	if selecting != min(2, len(may)) || p.Layers[may[0]].Select != "tokens" {
		t.Errorf("%d layers select, source %v", selecting, got.Source)
	}
	if e := p.Evidence[0]; e.Per != "layer" || e.Samples != 2 || len(e.Scores) != len(p.Layers) || len(e.Scores[0]) != 1 {
		t.Errorf("evidence %+v", e)
	}
}

// TestTidalSearch compares with every choice of places, under random recalls with pairs that cannot share.
func TestTidalSearch(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for trial := range 300 {
		size := 1 + rng.IntN(7)
		recall, layers := make([][]float64, size), make([]int, size)
		for i := range recall {
			layers[i] = i
			recall[i] = make([]float64, size)
			for j := i + 1; j < size; j++ {
				if recall[i][j] = float64(1+rng.IntN(5)) / 5; trial%3 == 0 && rng.IntN(4) == 0 {
					recall[i][j] = 0
				}
			}
		}
		n := 1 + rng.IntN(size)
		s := newTidalSearch(recall, layers)
		for _, mean := range []bool{false, true} {
			var best []int
			var bestCost [3]int64
			for set := 1; set < 1<<size; set += 2 { // place 0 always selects
				var picks []int
				cost := [3]int64{0, 1e6, 0} // −full, least, sum
				from := 0
				for i := range size {
					if set>>i&1 == 1 {
						picks, from = append(picks, i), i
					} else if v := s.recall[from][i]; v < 0 {
						cost[0]--
					} else {
						cost[1], cost[2] = min(cost[1], v), cost[2]+v
					}
				}
				if mean {
					cost[1] = 0
				}
				if len(picks) == n && (best == nil || larger(cost, bestCost)) {
					best, bestCost = picks, cost
				}
			}
			got := s.best(n, mean)
			var gotCost [3]int64
			gotCost[1] = 1e6
			from := 0
			for i := range size {
				if in(got, i) {
					from = i
				} else if v := s.recall[from][i]; v < 0 {
					gotCost[0]--
				} else {
					gotCost[1], gotCost[2] = min(gotCost[1], v), gotCost[2]+v
				}
			}
			if mean {
				gotCost[1] = 0
			}
			if len(got) != n || gotCost != bestCost {
				t.Fatalf("trial %d, mean %v: %v with %v, best %v with %v", trial, mean, got, gotCost, best, bestCost)
			}
		}
	}
}

func larger(a, b [3]int64) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] > b[i]
		}
	}
	return false
}

// TestTidalSelectsEverywhere: with as many selections as layers nobody shares, and the plan is the dense one.
func TestTidalSelectsEverywhere(t *testing.T) {
	model := deeper("llama-gqa")
	m := open(t, model)
	r, err := FindTidal(context.Background(), m, mixedWindows(model), TidalOptions{Budget: 8, Window: 2, Selections: 9})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{-1, -1, 2, 3, 4}; !reflect.DeepEqual(r.Source, want) || r.Least != 1 || r.Mean != 1 {
		t.Errorf("source %v, least %g, mean %g", r.Source, r.Least, r.Mean)
	}
	p := Draft(m.Arch)
	if err := r.Write(p, m.Arch, record); err != nil {
		t.Fatal(err)
	}
	sound(t, p)
	if full, all := p.FullHeads(100); full != all {
		t.Errorf("%d of %d heads are full", full, all)
	}
}

func TestFindTidalRefuses(t *testing.T) {
	ctx := context.Background()
	m, sliding := open(t, testmodel.Named("llama-gqa")), open(t, testmodel.Named("mistral-swa"))
	w := calib.NewWindows(testmodel.Windows(1, 20, 256, 1))
	for name, c := range map[string]struct {
		m   *nn.Model
		opt TidalOptions
	}{
		"short":   {m, TidalOptions{}},
		"window":  {m, TidalOptions{Budget: 8, Window: 8}},
		"dense":   {m, TidalOptions{Budget: 8, Window: 1}},
		"sliding": {sliding, TidalOptions{Budget: 8, Window: 1, Dense: 1}},
	} {
		if _, err := FindTidal(ctx, c.m, w, c.opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
