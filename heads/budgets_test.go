package heads

import (
	"context"
	"math"
	"math/rand/v2"
	"reflect"
	"sort"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// TestTopKeys compares with a whole sort, with many equal weights.
func TestTopKeys(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	for range 300 {
		w := make([]float64, rng.IntN(40))
		order := make([]int32, len(w))
		for j := range w {
			w[j], order[j] = float64(rng.IntN(6)), int32(j)
		}
		k := rng.IntN(12)
		sort.SliceStable(order, func(a, b int) bool { return w[order[a]] > w[order[b]] })
		want := append([]int32{77}, order[:min(k, len(w))]...)
		sort.Slice(want[1:], func(a, b int) bool { return want[1+a] < want[1+b] })
		if got := topKeys([]int32{77}, w, k); !reflect.DeepEqual(got, want) {
			t.Fatalf("top %d of %v: %v, want %v", k, w, got, want)
		}
	}
}

// TestHeadKVAgainstTheMatrix recomputes the R2 score of one prompt from whole, sorted rows.
func TestHeadKVAgainstTheMatrix(t *testing.T) {
	p := testmodel.NewPlanted(3)
	q := p.Prompts(1, 60, 3, 8)[0]
	prompt := promptOf(q)
	prompt.NeedleLo -= 2 // a needle longer than the answer
	for _, window := range []int{0, 20} {
		r := randomState(len(prompt.Sequence()), 4, 2, 8, window, 6)
		for h := range r.Shape.H {
			a := matrix(r.AttnState, h, device.Mask{Recent: window})
			n := prompt.NeedleHi - prompt.NeedleLo
			var want float64
			for j := range prompt.Answer {
				i := len(prompt.IDs) - 1 + j
				order := make([]int, i+1)
				for k := range order {
					order[k] = k
				}
				sort.SliceStable(order, func(x, y int) bool { return a[i][order[x]] > a[i][order[y]] })
				for _, k := range order[:n] {
					if k >= prompt.NeedleLo && k < prompt.NeedleHi {
						want += a[i][k] / float64(n)
					}
				}
			}
			if got := needleTop(r, prompt, h); !near(got, want, 1e-6) {
				t.Errorf("window %d head %d: %g, want %g", window, h, got, want)
			}
		}
	}
}

// TestHeadKVFindsPlantedHeads: the planted heads get the largest scores and so the largest budgets.
func TestHeadKVFindsPlantedHeads(t *testing.T) {
	pl, _, prompts := planted(t)
	s := everyThreads(t, pl.Model, func(m *nn.Model) *Scores {
		s, err := HeadKV(context.Background(), m, prompts[:4], Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	if best := SelectCount(s.KV, 2); !reflect.DeepEqual(best.Full, pl.Retrieval) {
		t.Errorf("best heads %v of %v", best.Full, s.KV)
	}
	m := open(t, pl.Model).Arch
	p := Draft(m)
	pol := BudgetPolicy{Base: 60, Window: 8, Page: 16, Beta: 1.005}
	if err := WriteHeadKV(p, m, s, pol, record); err != nil {
		t.Fatal(err)
	}
	sound(t, p)
	total := 0
	for l, row := range pl.Retrieval {
		for g, is := range row {
			got, _ := p.Resolve(l, g, manifest.Decoding, 1<<20)
			total += got.Budget
			if got.Selector != "snapkv" || got.Window != 8 || got.Pool != 7 || got.Budget%16 != 0 || is != (got.Budget > 64) {
				t.Errorf("%d.%d (planted %v): %+v", l, g, is, got)
			}
		}
	}
	if total != 12*64 || p.Evidence[0].Method != "headkv" {
		t.Errorf("budgets add up to %d, evidence %+v", total, p.Evidence)
	}
}

// TestHeadKVBudgets computes the published formula by hand.
func TestHeadKVBudgets(t *testing.T) {
	m := layersOf(2, 0, 0)
	m.MaxPosition = 4096
	s := &Scores{KV: [][]float64{{0.5, 0.25}, {0.25, 0}}}
	// b = 100, given up 80 each, 320 in all: 8 + 20 + 320·share.
	got, err := HeadKVBudgets(m, s, BudgetPolicy{Base: 108, Window: 8, Beta: 1.25})
	if want := [][]int{{188, 108}, {108, 28}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v, %v", got, want, err)
	}
	same := [][]int{{128, 128}, {128, 128}}
	got, err = HeadKVBudgets(m, &Scores{KV: [][]float64{{0, 0}, {0, 0}}}, BudgetPolicy{Page: 32})
	if err != nil || !reflect.DeepEqual(got, same) {
		t.Errorf("without scores: %v, %v", got, err)
	}
	got, err = HeadKVBudgets(m, s, BudgetPolicy{Beta: 1e9})
	if err != nil || !reflect.DeepEqual(got, same) {
		t.Errorf("nothing shared out: %v, %v", got, err)
	}
}

// TestPyramidBudgets: budgets fall by the same step, the first and last are the published ones.
func TestPyramidBudgets(t *testing.T) {
	m := layersOf(3, 0, 0, 0, 0, 0)
	m.MaxPosition = 4096
	got, err := PyramidBudgets(m, BudgetPolicy{Base: 232, Window: 32, Beta: 20})
	want := [][]int{{422, 422, 422}, {327, 327, 327}, {232, 232, 232}, {137, 137, 137}, {42, 42, 42}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v, %v", got, want, err)
	}
	got, err = PyramidBudgets(m, BudgetPolicy{Beta: 1})
	for _, row := range got {
		if !reflect.DeepEqual(row, []int{128, 128, 128}) {
			t.Errorf("beta 1: %v, %v", got, err)
		}
	}
	p := Draft(m)
	p.Model.Architecture = "LlamaForCausalLM"
	if err := WritePyramid(p, m, BudgetPolicy{Base: 250, Page: 64}); err != nil {
		t.Fatal(err)
	}
	sound(t, p)
	if len(p.Requires) != 0 { // heads of a layer have the same budget
		t.Errorf("requires %v", p.Requires)
	}
}

// TestBudgetsAreConserved: on models of every shape the sum is exact, budgets are pages within what layers see, and no
// budget is further than needed from the ideal.
func TestBudgetsAreConserved(t *testing.T) {
	for _, name := range oracleModels {
		m := describe(t, name)
		m.MaxPosition = 512
		for _, page := range []int{0, 8, 16} {
			for _, beta := range []float64{1.005, 3} {
				pol := BudgetPolicy{Base: 64, Window: 8, Page: page, Beta: beta}
				if name == "mistral-swa" {
					pol.Base = 16 // all that its layers see
				}
				a, err1 := HeadKVBudgets(m, fakeScores(m), pol)
				b, err2 := PyramidBudgets(m, pol)
				if err1 != nil || err2 != nil {
					t.Fatalf("%s: %v, %v", name, err1, err2)
				}
				for what, rows := range map[string][][]int{"headkv": a, "pyramid": b} {
					sum, n := 0, 0
					for l, row := range rows {
						for _, v := range row {
							sum += v
							n++
							sees := m.MaxPosition
							if w := m.Layers[l].Window; w > 0 {
								sees = w
							}
							if v%max(1, page) != 0 || v < pol.Window || v > RoundUp(sees, page) {
								t.Errorf("%s %s: budget %d", name, what, v)
							}
						}
					}
					if sum != n*pol.Base {
						t.Errorf("%s %s page %d: %d tokens for %d heads", name, what, page, sum, n)
					}
				}
				p := Draft(m)
				if err := WriteHeadKV(p, m, fakeScores(m), pol, record); err != nil {
					t.Fatal(err)
				}
				sound(t, p)
			}
		}
	}
}

// TestApportion compares with the search over all ways to share a few units out: the largest remainder makes the sum of
// squares of what is missing least.
func TestApportion(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		want, most := make([]float64, 4), make([]int, 4)
		for i := range want {
			want[i], most[i] = rng.Float64()*6, 1+rng.IntN(6)
		}
		total, low := rng.IntN(18), rng.IntN(3)
		best := math.Inf(1)
		for code := range 7 * 7 * 7 * 7 {
			sum, cost, ok := 0, 0.0, true
			for i, c := 0, code; i < 4; i, c = i+1, c/7 {
				v := c % 7
				ok = ok && v <= most[i] && v >= min(low, most[i])
				sum += v
				cost += (want[i] - float64(v)) * (want[i] - float64(v))
			}
			if ok && sum == total {
				best = math.Min(best, cost)
			}
		}
		got := apportion(want, total, low, most)
		if (got == nil) != math.IsInf(best, 1) {
			t.Fatalf("%v of %d in %d..%v: %v", want, total, low, most, got)
		}
		var cost float64
		for i, v := range got {
			cost += (want[i] - float64(v)) * (want[i] - float64(v))
		}
		if got != nil && !near(cost, best, 1e-4) {
			t.Errorf("%v of %d in %d..%v: %v costs %g, best %g", want, total, low, most, got, cost, best)
		}
	}
}

func TestBudgetsRefuse(t *testing.T) {
	m := layersOf(2, 0, 64)
	m.MaxPosition = 512
	s := &Scores{KV: [][]float64{{1, 2}, {3, math.Inf(1)}}}
	for name, pol := range map[string]BudgetPolicy{"window": {Base: 32}, "beta": {Beta: 0.5}, "too much": {Base: 300}, "pool": {Pool: -1}} {
		if _, err := PyramidBudgets(m, pol); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := HeadKVBudgets(m, s, BudgetPolicy{}); err == nil {
		t.Error("infinite score: no error")
	}
	if _, err := HeadKVBudgets(&arch.Model{}, s, BudgetPolicy{}); err == nil {
		t.Error("other shape: no error")
	}
}
