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
	free, err := SelectBalanced(scores, 128, 8, 2, 4, 8)
	if err != nil || !reflect.DeepEqual(free.Selection, SelectCount(scores, 128)) || free.GivenUp != 0 {
		t.Errorf("without effective bounds: %v, %g given up", err, free.GivenUp)
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
