package prune

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// someWanted are numbers around a share of everything.
func someWanted(m *arch.Model, share float64, seed uint64) Expected {
	rnd := rand.New(rand.NewPCG(seed, 12))
	e := Expected{Hidden: share * float64(m.D), Layers: make([]ExpectedLayer, len(m.Layers))}
	for l := range e.Layers {
		a := &m.Layers[l]
		part := func(n int) float64 { return float64(n) * min(1, 2*share*rnd.Float64()) }
		e.Layers[l] = ExpectedLayer{rnd.Float64() + 0.4, part(a.G), part(a.F)}
	}
	return e
}

// Whatever is wanted, what comes out follows the rules and meets the target, and so does the smaller model.
func TestFitLayers(t *testing.T) {
	every := Rules{Hidden: true, Heads: true, FFN: true, Depth: true}
	for _, c := range []struct {
		name string
		o    testmodel.Options
		t    Target
		r    Rules
	}{
		{"135M", testmodel.Llama135M(), Target{ByParams, 0.5, 0}, every},
		{"135M, flops", testmodel.Llama135M(), Target{ByFLOPs, 0.35, 4096}, every},
		{"8B", testmodel.Llama38B(), Target{ByParams, 0.5, 0}, every},
		{"8B, FFN", testmodel.Llama38B(), Target{ByParams, 0.8, 0}, Rules{FFN: true}},
		{"8B, heads", testmodel.Llama38B(), Target{ByParams, 0.93, 0}, Rules{Heads: true, AnyHeads: true}},
		{"7B, cache", testmodel.Llama27B(), Target{ByKV, 0.4, 0}, Rules{Heads: true, Hidden: true}},
		{"uneven", testmodel.Options{D: 256, H: 8, Layers: 6, G: 4, F: 1000, V: 512, PerLayer: map[int]testmodel.Sizes{1: {NoAttention: true}, 2: {H: 4, G: 2, F: 600}, 3: {NoFeedFwd: true}}}, Target{ByParams, 0.6, 0}, every},
		{"gpt2", testmodel.Options{Family: "gpt2", D: 768, H: 12, Layers: 12, V: 50257, Context: 1024}, Target{ByParams, 0.6, 0}, every},
		{"gpt2, FFN", testmodel.Options{Family: "gpt2", D: 768, H: 12, Layers: 12, V: 50257, Context: 1024}, Target{ByParams, 0.75, 0}, Rules{FFN: true, Depth: true}},
	} {
		m := configured(t, c.o)
		s := randomScores(m, 5)
		for seed := range uint64(2) {
			want := someWanted(m, c.t.Share+0.2, seed)
			n, err := FitLayers(m, c.t, c.r, want, s)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			checkFit(t, c.name, m, c.t, c.r, n)
			cut, err := CutOf(m, n, s)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if !reflect.DeepEqual(cut.Counts(m), n) {
				t.Errorf("%s: %+v is cut, %+v was asked", c.name, cut.Counts(m), n)
			}
			small, err := cut.Arch(m)
			if err != nil {
				t.Fatal(err)
			}
			if share, ok := c.t.Reached(m, small); !ok {
				t.Errorf("%s: share %g", c.name, share)
			}
			again, err := FitLayers(m, c.t, c.r, want, s)
			if err != nil || !reflect.DeepEqual(again, n) {
				t.Errorf("%s: the second time it is %v, %v", c.name, again, err)
			}
			if _, err := FitLayers(m, c.t, c.r, want, nil); err != nil {
				t.Errorf("%s: without scores: %v", c.name, err)
			}
		}
	}
}

func checkFit(t *testing.T, name string, m *arch.Model, target Target, r Rules, n *Counts) {
	t.Helper()
	hidden, ffn := DefaultMultiples(m)
	if n.Hidden != m.D && (!r.Hidden || n.Hidden%hidden != 0 && m.PosEmbed == "") {
		t.Errorf("%s: width %d", name, n.Hidden)
	}
	for l, x := range n.Layers {
		a := &m.Layers[l]
		switch {
		case x.Drop && (!r.Depth || x.Heads+x.FFN > 0):
			t.Errorf("%s: layer %d is dropped: %+v", name, l, x)
		case x.Drop:
		case x.Heads != a.G && (!r.Heads || x.Heads == 0 && !r.Depth || x.Heads&(x.Heads-1) != 0 && !r.AnyHeads):
			t.Errorf("%s: layer %d has %d heads of %d", name, l, x.Heads, a.G)
		case x.FFN != a.F && (!r.FFN || x.FFN == 0 && !r.Depth || x.FFN%ffn != 0):
			t.Errorf("%s: layer %d has %d FFN channels of %d", name, l, x.FFN, a.F)
		case m.PosEmbed != "" && x.Heads > 0 && x.Heads*a.K != n.Hidden:
			t.Errorf("%s: layer %d has %d heads of %d in a width of %d", name, l, x.Heads, a.K, n.Hidden)
		}
	}
}

// Everything wanted and allowed stays as it is.
func TestFitLayersIdentity(t *testing.T) {
	for _, c := range testmodel.Cases() {
		m := configured(t, c.Options)
		n, err := FitLayers(m, Target{ByParams, 1, 0}, Rules{Hidden: true, Heads: true, FFN: true, Depth: true}, All(m), nil)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		cut, err := CutOf(m, n, &Scores{Layers: make([]LayerScores, len(m.Layers))})
		if err != nil || !cut.Identity(m) {
			t.Errorf("%s: %+v, %v", c.Name, n, err)
		}
	}
}

// The steps that lead to the target are the cheapest of all, by plain sorting.
func TestFitLayersTakesTheCheapest(t *testing.T) {
	m := configured(t, testmodel.Options{D: 64, Layers: 5, F: 400, V: 64})
	s := randomScores(m, 6)
	r := Rules{FFN: true, FFNMultiple: 8}
	type step struct {
		layer int
		mean  float64
	}
	var steps []step
	for l := range m.Layers {
		best := slices.Sorted(slices.Values(s.Layers[l].FFN)) // the worst first
		for i := 0; i < 392; i += 8 {
			sum := 0.0
			for _, v := range best[i : i+8] {
				sum += v
			}
			steps = append(steps, step{l, sum / 8})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.mean, b.mean), cmp.Compare(a.layer, b.layer)) })
	target := Target{ByParams, 0.6, 0}
	counts := func() []int { return slices.Repeat([]int{400}, 5) }
	reached := func(f []int) bool {
		e := All(m)
		for l := range f {
			e.Layers[l].FFN = float64(f[l])
		}
		share := Expect(m, 0, e).Params.Value / float64(Count(m, 0).Params)
		return math.Abs(share-0.6) <= Tolerance*0.6
	}
	down := counts()
	for _, x := range steps {
		if reached(down) {
			break
		}
		down[x.layer] -= 8
	}
	up := slices.Repeat([]int{8}, 5)
	for _, x := range slices.Backward(steps) {
		if reached(up) {
			break
		}
		up[x.layer] += 8
	}
	few := All(m)
	for l := range few.Layers {
		few.Layers[l].FFN = 0
	}
	for _, c := range []struct {
		from Expected
		want []int
	}{{All(m), down}, {few, up}} {
		n, err := FitLayers(m, target, r, c.from, s)
		if err != nil {
			t.Fatal(err)
		}
		for l, x := range n.Layers {
			if x.FFN != c.want[l] || x.Heads != 8 || x.Drop {
				t.Errorf("layer %d: %+v, want %d FFN channels", l, x, c.want[l])
			}
		}
	}
	// Without scores, the first layers change first.
	n, err := FitLayers(m, target, r, All(m), nil)
	if err != nil || n.Layers[0].FFN != 8 || n.Layers[4].FFN != 400 {
		t.Errorf("%+v, %v", n, err)
	}
}

// Layers and sub-layers of which less than half is wanted go where they may, but for the last one.
func TestFitLayersDrops(t *testing.T) {
	m := configured(t, testmodel.Options{D: 64, Layers: 4, F: 400, V: 64})
	want := All(m)
	want.Layers[0].Layer = 0.49
	want.Layers[1].Heads = 0.4
	want.Layers[2].FFN = 3.9
	want.Layers[3].Heads, want.Layers[3].FFN = 0, 0
	r := Rules{Heads: true, FFN: true, Depth: true}
	n, err := FitLayers(m, Target{ByParams, 0.242, 0}, r, want, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l := n.Layers; !l[0].Drop || l[1].Heads != 0 || l[1].FFN == 0 || l[2].Heads == 0 || l[2].FFN != 0 || !l[3].Drop {
		t.Errorf("%+v", n)
	}
	r.Depth = false
	if n, err = FitLayers(m, Target{ByParams, 0.5, 0}, r, want, nil); err != nil {
		t.Fatal(err)
	}
	for l, x := range n.Layers {
		if x.Drop || x.Heads == 0 || x.FFN == 0 {
			t.Errorf("layer %d: %+v", l, x)
		}
	}
	for l := range want.Layers {
		want.Layers[l] = ExpectedLayer{Layer: 0.1 + float64(l%2)/10}
	}
	r.Depth = true
	var e *TargetError
	if _, err = FitLayers(m, Target{ByParams, 0.5, 0}, r, want, nil); !errors.As(err, &e) || e.Below == 0 || e.Above != 0 || e.Below >= 0.5 {
		t.Errorf("one head of one layer: %v", err)
	}
}

func TestFitLayersRefuses(t *testing.T) {
	m := configured(t, testmodel.Options{Layers: 2})
	half, r := Target{ByParams, 0.5, 0}, Rules{FFN: true}
	nan := All(m)
	nan.Layers[1].Heads = math.NaN()
	bad := randomScores(m, 1)
	bad.Layers[0].FFN[3] = math.Inf(1)
	short := randomScores(m, 1)
	short.Layers = short.Layers[:1]
	for want, call := range map[string]func() error{
		"metric":             func() error { _, err := FitLayers(m, Target{}, r, All(m), nil); return err },
		"nothing that":       func() error { _, err := FitLayers(m, half, Rules{}, All(m), nil); return err },
		"0 layers wanted":    func() error { _, err := FitLayers(m, half, r, Expected{}, nil); return err },
		"wanted number":      func() error { _, err := FitLayers(m, half, r, nan, nil); return err },
		"is not finite":      func() error { _, err := FitLayers(m, half, r, All(m), bad); return err },
		"scores of 1 layers": func() error { _, err := FitLayers(m, half, r, All(m), short); return err },
		"nearest share is 0.7946": func() error {
			_, err := FitLayers(m, Target{ByParams, 0.1, 0}, Rules{Heads: true}, All(m), nil)
			return err
		},
		"nothing that kv counts": func() error {
			n := m.Resize(64, []arch.LayerSize{{F: 8}, {F: 8}})
			_, err := FitLayers(n, Target{ByKV, 0.5, 0}, Rules{Heads: true}, All(n), nil)
			return err
		},
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestCutOf(t *testing.T) {
	m := configured(t, testmodel.Options{D: 8, H: 4, Layers: 2, F: 8})
	s := &Scores{Hidden: []float64{1, 3, 2, 3, 0, 3, 2, 2}, Layers: []LayerScores{{}, {Heads: []float64{-1, -2, -1, -1}, FFN: make([]float64, 8)}}}
	c, err := CutOf(m, &Counts{5, []LayerCounts{{Drop: true}, {Heads: 2, FFN: 3}}}, s)
	want := &Cut{Hidden: Units{Keep: []int{1, 2, 3, 5, 6}}, Layers: []CutLayer{{Drop: true}, {Heads: Units{Keep: []int{0, 2}}, FFN: Units{Keep: []int{0, 1, 2}}}}}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, %v", c, err)
	}
	all := []float32{0, 10, 20, 30, 40, 50, 60, 70}
	if got := c.Hidden.Of(all); !slices.Equal(got, []float32{10, 20, 30, 50, 60}) {
		t.Errorf("%v", got)
	}
	if got := (&Units{}).Of(all); !slices.Equal(got, all) || &got[0] == &all[0] {
		t.Errorf("%v", got)
	}
	c, err = CutOf(m, &Counts{8, []LayerCounts{{Heads: 4, FFN: 8}, {}}}, s)
	want = &Cut{Layers: []CutLayer{{}, {Heads: Units{Keep: []int{}}, FFN: Units{Keep: []int{}}}}}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, %v", c, err)
	}
	for _, x := range []struct {
		n    Counts
		want string
	}{
		{Counts{8, []LayerCounts{{Heads: 3, FFN: 8}, {}}}, "3 of 4 KV heads of layer 0 are to stay, and there are no scores"},
		{Counts{8, []LayerCounts{{Heads: 4, FFN: 9}, {}}}, "9 of 8 FFN channels of layer 0"},
		{Counts{-1, []LayerCounts{{}, {}}}, "-1 of 8 channels"},
		{Counts{0, []LayerCounts{{}, {}}}, "none stays"},
		{Counts{8, []LayerCounts{{}}}, "counts of 1 layers"},
		{Counts{8, []LayerCounts{{}, {Drop: true, FFN: 1}}}, "layer 1 is dropped and has units"},
		{Counts{8, []LayerCounts{{Drop: true}, {Drop: true}}}, "no layer stays"},
	} {
		if _, err := CutOf(m, &x.n, s); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %q", x.n, err, x.want)
		}
	}
	for _, x := range []Shape{{9, 4, 8, 2}, {8, 5, 8, 2}, {8, 4, 0, 2}, {8, 4, 8, 3}} {
		if _, err := x.Counts(m, s); err == nil {
			t.Errorf("shape %+v is accepted", x)
		}
	}
	if n, err := (Shape{8, 4, 4, 1}).Counts(m, &Scores{Layers: []LayerScores{{Layer: 2}, {Layer: 2}}}); err != nil || !n.Layers[1].Drop {
		t.Errorf("of equals the first stays: %+v, %v", n, err)
	}
}

// The width of the stream is one that the heads of most layers divide: 32 does not divide 9 heads, 288 does.
func TestFitLayersDividesWidth(t *testing.T) {
	m := configured(t, testmodel.Llama135M())
	want := All(m)
	want.Hidden = 400
	n, err := FitLayers(m, Target{ByParams, 0.4, 0}, Rules{Hidden: true, FFN: true}, want, nil)
	if err != nil || n.Hidden != 288 {
		t.Errorf("%+v, %v", n, err)
	}
	for l := range want.Layers {
		want.Layers[l].Heads = float64(1 + l%5/2) // 1, 1, 2, 2, 3 heads: as many layers have 3 query heads as have 6
	}
	n, err = FitLayers(m, Target{ByParams, 0.5, 0}, Rules{Hidden: true, Heads: true, FFN: true}, want, nil)
	if err != nil || n.Hidden != 384 { // not 416, which 6 does not divide
		t.Errorf("%+v, %v", n, err)
	}
}

// Steps do not go past the target: where one alone would, those on both sides are named.
func TestFitLayersTooCoarse(t *testing.T) {
	m := configured(t, testmodel.Options{Layers: 2, F: 192, V: 16})
	whole := float64(Count(m, 0).Params)
	at := func(a, b int) float64 {
		return float64(Count(m.Resize(64, []arch.LayerSize{{H: 8, G: 8, F: a}, {H: 8, G: 8, F: b}}), 0).Params) / whole
	}
	for _, from := range []float64{64, 192} {
		want := All(m)
		want.Layers[0].FFN, want.Layers[1].FFN = from, from
		_, err := FitLayers(m, Target{ByParams, (at(128, 64) + at(128, 128)) / 2, 0}, Rules{FFN: true, FFNMultiple: 64}, want, nil)
		var e *TargetError
		if !errors.As(err, &e) || e.Below != at(128, 64) || e.Above != at(128, 128) {
			t.Errorf("from %g: %v, want %g and %g", from, err, at(128, 64), at(128, 128))
		}
	}
}
