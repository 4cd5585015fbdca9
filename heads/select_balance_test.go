package heads

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// bestBalanced tries every set of count heads.
func bestBalanced(scores [][]float64, count int, factor float64, ranks []int) (best float64, found bool) {
	g := len(scores[0])
	full := make([][]bool, len(scores))
	for l := range full {
		full[l] = make([]bool, g)
	}
	for set := range 1 << (g * len(scores)) {
		n, total := 0, 0.0
		for i := range g * len(scores) {
			f := set>>i&1 == 1
			full[i/g][i%g] = f
			if f {
				n++
				total += Round(scores[i/g][i%g])
			}
		}
		if n != count {
			continue
		}
		ok := true
		for _, r := range ranks {
			load, err := TensorParallel(full, r)
			ok = ok && err == nil && float64(load.Busiest) <= factor*load.Ideal+1e-9
		}
		if ok && (!found || total > best) {
			best, found = total, true
		}
	}
	return best, found
}

// TestSelectBalancedIsExact compares with every set of heads of small models, bounds met and not.
func TestSelectBalancedIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	tight, infeasible := 0, 0
	for trial := range 60 {
		scores := make([][]float64, 3)
		for l := range scores {
			for range 4 {
				scores[l] = append(scores[l], math.Round(rng.NormFloat64()*20)/10)
			}
		}
		ranks := [][]int{{2}, {4}, {2, 4}, {2, 8}}[trial%4]
		factor := []float64{1, 1.2, 1.5}[trial%3]
		count := 1 + rng.IntN(11)
		want, feasible := bestBalanced(scores, count, factor, ranks)
		b, err := SelectBalanced(scores, count, factor, ranks...)
		if (err == nil) != feasible {
			t.Errorf("trial %d: %v, feasible %v", trial, err, feasible)
		}
		if err != nil {
			infeasible++
			continue
		}
		n, got, top := 0, 0.0, 0.0
		for l, row := range b.Full {
			for h, f := range row {
				if f {
					n++
					got += Round(scores[l][h])
				}
				if SelectCount(scores, count).Full[l][h] {
					top += Round(scores[l][h])
				}
			}
		}
		if n != count || !near(got, want, 1e-9) || !near(b.GivenUp, top-want, 1e-9) {
			t.Errorf("trial %d: %d heads of %g (given up %g), want %d of %g (%g)", trial, n, got, b.GivenUp, count, want, top-want)
		}
		if b.GivenUp > 0 {
			tight++
		}
		for i, r := range ranks {
			load, err := TensorParallel(b.Full, r)
			if err != nil || float64(load.Busiest) > factor*load.Ideal+1e-9 || !reflect.DeepEqual(load, b.Loads[i]) {
				t.Errorf("trial %d, %d ranks: %+v", trial, r, load)
			}
		}
	}
	if tight < 10 || infeasible < 3 {
		t.Errorf("%d trials gave up score and %d had no answer: too few to say anything", tight, infeasible)
	}
}

// TestSelectBalancedAtScale: half of the heads of 32 layers of 8, on 2, 4 and 8 ranks.
func TestSelectBalancedAtScale(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	scores := make([][]float64, 32)
	for l := range scores {
		for range 8 {
			scores[l] = append(scores[l], rng.Float64())
		}
	}
	b, err := SelectBalanced(scores, 128, 1.25, 2, 4, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range b.Loads {
		if float64(l.Busiest) > 1.25*l.Ideal {
			t.Errorf("%+v", l)
		}
	}
	if b.Count != 128 || b.GivenUp <= 0 {
		t.Errorf("%d heads, %g given up", b.Count, b.GivenUp)
	}
	if b.Least != b.GivenUp {
		t.Errorf("an exact search gives up %g and proves %g", b.GivenUp, b.Least)
	}
	free, err := SelectBalanced(scores, 128, 8, 2, 4, 8)
	if err != nil || !reflect.DeepEqual(free.Selection, SelectCount(scores, 128)) || free.GivenUp != 0 {
		t.Errorf("without effective bounds: %v, %g given up", err, free.GivenUp)
	}
}

// TestSelectBalancedByPrices: prices never give more than the exact search, nor prove less, and come near it; and models
// whose table is too large are balanced with a small proven gap.
func TestSelectBalancedByPrices(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 6))
	draw := func(layers, heads int) [][]float64 {
		scores := make([][]float64, layers)
		for l := range scores {
			for range heads {
				scores[l] = append(scores[l], rng.Float64()*rng.Float64())
			}
		}
		return scores
	}
	compared := 0
	for trial := range 20 {
		scores := draw(6+trial%5, 8)
		count := len(scores)*2 + rng.IntN(len(scores)*3)
		b := newBalance(scores, count, 1.1+0.1*float64(trial%4), []int{2, 4})
		if b.width[0] < 0 || b.width[1] < 0 {
			continue
		}
		compared++
		units, err := scoreUnits(scores)
		if err != nil {
			t.Fatal(err)
		}
		var layers [][]balanceChoice
		for _, row := range units {
			layers = append(layers, b.choices(row))
		}
		states, ok := b.states(len(layers), 100)
		if !ok {
			t.Fatal("too large")
		}
		full, best := b.exact(layers, states)
		if full == nil {
			continue
		}
		got, bound := b.dual(layers)
		if got == nil || !b.meets(got) {
			t.Errorf("trial %d: bounds not met", trial)
			continue
		}
		if v := total(units, got); v > best || bound < best*(1-1e-12) || v < 0.99*best || bound > 1.01*best {
			t.Errorf("trial %d: prices give %g and prove %g, exact %g", trial, v, bound, best)
		}
	}
	if compared < 10 {
		t.Errorf("only %d trials compared", compared)
	}
	b, err := SelectBalanced(draw(80, 8), 320, 1.2, 2, 4, 8)
	if err != nil || b.Count != 320 || b.GivenUp <= 0 || b.Least > b.GivenUp || b.GivenUp > 1.02*b.Least {
		t.Errorf("%d heads, %g given up, at least %g, %v", b.Count, b.GivenUp, b.Least, err)
	}
	for _, l := range b.Loads {
		if float64(l.Busiest) > 1.2*l.Ideal {
			t.Errorf("%+v", l)
		}
	}
}

func TestSelectBalancedRefuses(t *testing.T) {
	scores := [][]float64{{1, 2, 3, 4}, {1, 2, 3, 4}}
	nan := [][]float64{{1, math.NaN(), 3, 4}, {1, 2, 3, 4}}
	for name, f := range map[string]func() (Balanced, error){
		"factor":     func() (Balanced, error) { return SelectBalanced(scores, 2, 0.9, 2) },
		"no ranks":   func() (Balanced, error) { return SelectBalanced(scores, 2, 2) },
		"not nested": func() (Balanced, error) { return SelectBalanced(scores, 2, 2, 4, 2) },
		"no split":   func() (Balanced, error) { return SelectBalanced(scores, 2, 2, 3) },
		"nan":        func() (Balanced, error) { return SelectBalanced(nan, 2, 2, 2) },
		"one head":   func() (Balanced, error) { return SelectBalanced(scores, 1, 1.5, 2) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
