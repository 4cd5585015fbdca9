package kvmerge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// clustered draws n vectors of a dimension: half as many directions, which they share with others at random, and noise.
func clustered(seed uint64, n, dim int, noise float64) [][]float64 {
	rng := rand.New(rand.NewPCG(seed, 12))
	centre := make([][]float64, n/2)
	for i := range centre {
		centre[i] = make([]float64, dim)
		for j := range dim {
			centre[i][j] = rng.NormFloat64()
		}
	}
	out := make([][]float64, n)
	for i := range out {
		c := centre[rng.IntN(len(centre))]
		scale := math.Exp(rng.NormFloat64() / 2)
		for j := range dim {
			out[i] = append(out[i], scale*(c[j]+noise*rng.NormFloat64()))
		}
	}
	return out
}

// leftover returns the cost of merging vectors into one direction: Σ|x|² less the largest eigenvalue of their Gram matrix.
func leftover(seed uint64, n, dim int, noise float64) func([]int) float64 {
	x := clustered(seed, n, dim, noise)
	return func(members []int) float64 {
		v := make([]float64, dim)
		var all, lead float64
		for _, h := range members {
			for j, e := range x[h] {
				v[j] += e
				all += e * e
			}
		}
		for range 60 {
			next := make([]float64, dim)
			for _, h := range members {
				dot := 0.0
				for j, e := range x[h] {
					dot += e * v[j]
				}
				for j, e := range x[h] {
					next[j] += dot * e
				}
			}
			lead = 0
			for _, e := range next {
				lead += e * e
			}
			lead = math.Sqrt(lead)
			for j := range v {
				v[j] = next[j] / lead
			}
		}
		return all - lead
	}
}

// scatter returns the cost of merging vectors into their mean: Σ|x - mean|².
func scatter(seed uint64, n, dim int, noise float64) func([]int) float64 {
	x := clustered(seed, n, dim, noise)
	return func(members []int) float64 {
		var sum float64
		for j := range dim {
			var s, q float64
			for _, h := range members {
				s += x[h][j]
				q += x[h][j] * x[h][j]
			}
			sum += q - s*s/float64(len(members))
		}
		return sum
	}
}

// The search is near the optimum where the optimum is known.
func TestSearchAgainstExact(t *testing.T) {
	var worst, mean float64
	runs, optimal := 0, 0
	for seed := range uint64(8) {
		for name, cost := range map[string]func([]int) float64{
			"leftover, clusters": leftover(seed, 16, 24, 0.5), "leftover, noise": leftover(seed, 16, 24, 2),
			"leftover, few dimensions": leftover(seed, 16, 4, 1),
			"scatter, clusters":        scatter(seed, 16, 24, 0.5), "scatter, noise": scatter(seed, 16, 24, 2),
		} {
			class := []int(nil)
			if seed%2 == 1 {
				class = []int{0, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0}
			}
			g := Grouping{N: 16, T: 4, Cost: cost, Class: class, Seed: seed}
			_, best := g.Solve()
			c := &groupCosts{of: cost, known: map[string]float64{}}
			_, got := g.found(c, g.search(c), false)
			gap := got.Cost/best.Cost - 1
			if gap < -1e-8 || gap > 0.02 || got.Mixed != best.Mixed {
				t.Errorf("%s, seed %d: %+v, the optimum is %+v: a gap of %.2f %%", name, seed, got, best, 100*gap)
			}
			worst = math.Max(worst, gap)
			mean += gap
			runs++
			if gap < 1e-8 {
				optimal++
			}
		}
	}
	t.Logf("%d of %d at the optimum, gap %.3f %% in the mean, %.2f %% at worst", optimal, runs, 100*mean/float64(runs), 100*worst)
}

// Groups that cost nothing are found among others that cost something at random.
func TestPlantedGroups(t *testing.T) {
	for _, n := range []int{32, 64} {
		for _, size := range []int{2, 4, 8} {
			rng := rand.New(rand.NewPCG(uint64(n), uint64(size)))
			order := rng.Perm(n)
			in := make([]int, n)
			var want Groups
			for i := 0; i < n; i += size {
				want = append(want, order[i:i+size])
				for _, h := range order[i : i+size] {
					in[h] = i
				}
			}
			want = canonical(want)
			random := drawn(rng.Uint64(), 1<<30)
			cost := func(m []int) float64 {
				sum := 0.0 // over pairs of different groups: between 0.2 and 1 each
				for i, a := range m {
					for _, b := range m[i+1:] {
						if in[a] != in[b] {
							sum += 0.4 + 0.8*random([]int{a, b})/(1<<30)
						}
					}
				}
				if sum > 0 { // and something that no pair knows of
					sum *= 1 + random(m)/(1<<31)
				}
				return sum
			}
			once, calls := counting(t, cost)
			got, found := Grouping{N: n, T: size, Cost: once}.Solve()
			if !sameGroups(got, want) || found.Cost != 0 {
				t.Errorf("%d heads by %d: %v %+v, want %v", n, size, got, found, want)
			}
			t.Logf("%d heads by %d: %d costs asked for", n, size, calls())
		}
	}
}

// No swap of two heads makes the result cheaper, and mixed groups are kept few.
func TestSearchEndsWhereNoSwapHelps(t *testing.T) {
	class := make([]int, 32)
	for i := range class {
		class[i] = i * i % 5 % 2
	}
	for _, class := range [][]int{nil, class} {
		cost := leftover(3, 32, 16, 1)
		groups, found := Grouping{N: 32, T: 4, Cost: cost, Class: class}.Solve()
		for i, a := range groups {
			for _, b := range groups[i+1:] {
				for x := range a {
					for y := range b {
						na, nb := replaced(a, x, b[y]), replaced(b, y, a[x])
						rest := slices.DeleteFunc(slices.Clone(groups), func(g []int) bool { return g[0] == a[0] || g[0] == b[0] })
						other := append(Groups{na, nb}, rest...)
						change := cost(na) + cost(nb) - cost(a) - cost(b)
						if change < -1e-6*found.Cost && mixedOf(class, other) <= found.Mixed {
							t.Errorf("%d and %d: swapping changes %v by %v", a[x], b[y], found.Cost, change)
						}
					}
				}
			}
		}
	}
}

// The time of a grouping where a cost takes a millisecond of waiting.
func BenchmarkGrouping(b *testing.B) {
	for _, c := range []struct{ n, t int }{{8, 4}, {16, 4}, {32, 2}, {32, 4}, {64, 2}, {64, 4}, {64, 8}} {
		b.Run(fmt.Sprintf("%dby%d", c.n, c.t), func(b *testing.B) {
			cost := leftover(1, c.n, 16, 1)
			asked := 0
			for b.Loop() {
				asked = 0
				Grouping{N: c.n, T: c.t, Cost: func(m []int) float64 {
					asked++
					v := cost(m)
					for start := time.Now(); time.Since(start) < time.Millisecond; {
					}
					return v
				}}.Solve()
			}
			b.ReportMetric(float64(asked), "costs")
		})
	}
}
