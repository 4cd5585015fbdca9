package kvmerge

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// bruteSpread tries every choice: least cost, then least size, then more heads in earlier layers, then the first. Nil where nothing fits.
func bruteSpread(layers [][]Choice, width []int, budget int64) (best []int, least int64) {
	pick := make([]int, len(layers))
	var bestCost float64
	var bestSize int64
	least = math.MaxInt64
	var visit func(l int, cost float64, size int64)
	visit = func(l int, cost float64, size int64) {
		if l == len(layers) {
			least = min(least, size)
			better := best == nil || cost < bestCost || cost == bestCost && (size < bestSize || size == bestSize && earlier(layers, pick, best))
			if size <= budget && better {
				best, bestCost, bestSize = slices.Clone(pick), cost, size
			}
			return
		}
		if len(layers[l]) == 0 {
			pick[l] = -1
			visit(l+1, cost, size)
		}
		for i, c := range layers[l] {
			pick[l] = i
			visit(l+1, cost+c.Cost, size+int64(c.Heads*width[l]))
		}
	}
	visit(0, 0, 0)
	return best, least
}

func earlier(layers [][]Choice, a, b []int) bool {
	for l := range a {
		if len(layers[l]) > 0 {
			if x, y := layers[l][a[l]].Heads, layers[l][b[l]].Heads; x != y {
				return x > y
			}
		}
	}
	return false // alike: the one that came first
}

func TestSpreadAgainstBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	fitted, refused := 0, 0
	for range 4000 {
		n := rng.IntN(6)
		layers, width := make([][]Choice, n), make([]int, n)
		top := int64(0)
		for l := range layers {
			width[l] = []int{1, 6, 64, 96, 7}[rng.IntN(5)]
			most := 0
			for range rng.IntN(6) { // none: a layer without attention
				c := Choice{Heads: rng.IntN(9), Cost: float64(rng.IntN(9) - 2)}
				layers[l] = append(layers[l], c)
				most = max(most, c.Heads)
			}
			top += int64(most * width[l])
		}
		// A largest cost of 10 makes whole costs whole steps.
		layers, width = append(layers, []Choice{{Heads: 2, Cost: 10}, {Heads: 3, Cost: -10}}), append(width, 5)
		budget := rng.Int64N(top + 20)
		want, least := bruteSpread(layers, width, budget)
		got, err := Spread(layers, width, budget)
		var short *BudgetError
		switch {
		case want == nil:
			refused++
			if !errors.As(err, &short) || *short != (BudgetError{budget, least}) {
				t.Fatalf("%v of %v in %d: %v, error %v; least %d", layers, width, budget, got, err, least)
			}
			if _, err := Spread(layers, width, least); err != nil {
				t.Fatalf("the least budget, %d: %v", least, err)
			}
		case err != nil || !slices.Equal(got, want):
			t.Fatalf("%v of %v in %d: %v (%v), want %v", layers, width, budget, got, err, want)
		default:
			fitted++
		}
	}
	if fitted < 1000 || refused < 100 {
		t.Errorf("%d instances fit, %d do not", fitted, refused)
	}
}

// halves are the choices of a layer of g heads: all of them at no cost, and then half as many each time at a higher cost.
func halves(rng *rand.Rand, g, n int) []Choice {
	var out []Choice
	cost := 0.0
	for range n {
		out = append(out, Choice{Heads: g, Cost: cost})
		cost += rng.Float64() * float64(1+len(out))
		g /= 2
	}
	return out
}

func TestSpreadWithRoomForAllKeepsAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	layers, width := make([][]Choice, 40), make([]int, 40)
	all := int64(0)
	for l := range layers {
		if l%7 == 3 {
			continue
		}
		layers[l], width[l] = halves(rng, 32, 6), 64*(1+l%3)
		all += int64(32 * width[l])
	}
	for _, budget := range []int64{all, all + 1, math.MaxInt64} {
		got, err := Spread(layers, width, budget)
		if err != nil {
			t.Fatal(err)
		}
		for l, i := range got {
			if want := min(0, len(layers[l])-1); i != want {
				t.Errorf("budget %d, layer %d: choice %d, want %d", budget, l, i, want)
			}
		}
	}
}

// A deep model is quick, and its result is as good as the best multiplier's bound says.
func TestSpreadOfDeepModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(17, 18))
	layers, width := make([][]Choice, 80), make([]int, 80)
	for l := range layers {
		layers[l], width[l] = halves(rng, 128, 5), 128
	}
	const budget = 80 * 128 * 128 * 2 / 5
	start := time.Now()
	got, err := Spread(layers, width, budget)
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	var cost float64
	var size int64
	for l, i := range got {
		cost += layers[l][i].Cost
		size += int64(layers[l][i].Heads * width[l])
	}
	bound := math.Inf(-1)
	for price := 1e-7; price < 1; price *= 1.02 {
		v := -price * budget
		for l, choices := range layers {
			least := math.Inf(1)
			for _, c := range choices {
				least = math.Min(least, c.Cost+price*float64(c.Heads*width[l]))
			}
			v += least
		}
		bound = math.Max(bound, v)
	}
	t.Logf("%v; cost %.4f, bound %.4f, size %d of %d", took, cost, bound, size, budget)
	if size > budget || cost < bound-1e-6 || cost > 1.01*bound {
		t.Errorf("cost %v, size %d of %d; no choice costs less than %v", cost, size, budget, bound)
	}
	if took > 500*time.Millisecond { // 50 ms on a machine that does nothing else
		t.Errorf("it took %v", took)
	}
}

func TestSpreadRefusesNonsense(t *testing.T) {
	one := [][]Choice{{{Heads: 1, Cost: 1}}}
	for name, c := range map[string]struct {
		layers [][]Choice
		width  []int
	}{
		"widths":       {one, nil},
		"width":        {one, []int{0}},
		"wide":         {one, []int{1 << 25}},
		"negative":     {[][]Choice{{{Heads: -1}}}, []int{1}},
		"heads":        {[][]Choice{{{Heads: 1 << 25}}}, []int{1}},
		"not a number": {[][]Choice{{{Heads: 1, Cost: math.NaN()}}}, []int{1}},
		"infinite":     {[][]Choice{{{Heads: 1, Cost: math.Inf(-1)}}}, []int{1}},
		"choices":      {[][]Choice{make([]Choice, 257)}, []int{1}},
		"table":        {[][]Choice{{{Heads: 0}, {Heads: 1 << 24}, {Heads: 1}}}, []int{1 << 24}},
		"layers":       {make([][]Choice, 5000), make([]int, 5000)},
	} {
		var short *BudgetError
		if name == "table" { // the common divisor makes it small; another width does not
			c.layers, c.width = append(c.layers, []Choice{{Heads: 0}, {Heads: 1}}), append(c.width, 1)
		}
		if _, err := Spread(c.layers, c.width, math.MaxInt64); err == nil || errors.As(err, &short) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := Spread(nil, nil, 0); err != nil || len(got) != 0 {
		t.Errorf("no layers: %v, %v", got, err)
	}
	if got, err := Spread([][]Choice{nil}, []int{0}, 0); err != nil || !slices.Equal(got, []int{-1}) {
		t.Errorf("a layer without attention: %v, %v", got, err)
	}
}

// Every number of heads up to 128 in every layer, and widths of two kinds.
func BenchmarkSpread(b *testing.B) {
	rng := rand.New(rand.NewPCG(19, 20))
	layers, width := make([][]Choice, 80), make([]int, 80)
	for l := range layers {
		width[l] = 64 * (1 + l%2)
		for h := 1; h <= 128; h++ {
			layers[l] = append(layers[l], Choice{Heads: h, Cost: rng.Float64() * float64(128-h)})
		}
	}
	for b.Loop() {
		if _, err := Spread(layers, width, 80*64*96); err != nil {
			b.Fatal(err)
		}
	}
}
