package heads

import (
	"math"
	"math/rand/v2"
	"testing"
)

// dualAt is the relaxation's value at some multipliers, by brute force over the sets of at most k rules of each layer.
func dualAt(p *program, lambda []float64) float64 {
	price := func(h, r int) float64 {
		i := p.at(h, r)
		v := p.f[i]
		for c, row := range p.rows {
			v += lambda[c] * row.inv * row.a[i]
		}
		return v
	}
	var sum float64
	for l := range p.rules {
		best := math.Inf(1)
		for mask := 1; mask < 1<<p.R; mask++ {
			n, cost := 0, 0.0
			for r := range p.R {
				n += mask >> r & 1
			}
			if n > p.k {
				continue
			}
			for h := p.first[l]; h < p.first[l+1]; h++ {
				least := math.Inf(1)
				for r := range p.R {
					if mask>>r&1 == 1 {
						least = math.Min(least, price(h, r))
					}
				}
				cost += least
			}
			best = math.Min(best, cost)
		}
		sum += best
	}
	for c, row := range p.rows {
		sum -= lambda[c] * row.inv * row.b
	}
	return sum
}

// highest maximises a concave function over [0, hi] by ternary search.
func highest(hi float64, f func(float64) float64) float64 {
	lo := 0.0
	for range 80 {
		a, b := lo+(hi-lo)/3, hi-(hi-lo)/3
		if f(a) < f(b) {
			lo = a
		} else {
			hi = b
		}
	}
	return f((lo + hi) / 2)
}

// TestBundleReachesTheDual compares the bound with nested ternary searches over one and two multipliers.
func TestBundleReachesTheDual(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	compared := 0
	for compared < 30 {
		k := randomKnapsack(r)
		k.Losses = nil
		k.Caches = k.Caches[:min(2, len(k.Caches))]
		for i := range k.Caches {
			k.Caches[i].Min = 0
		}
		if _, ok := bruteForce(k); !ok {
			continue
		}
		p, err := newProgram(k)
		if err != nil {
			t.Fatal(err)
		}
		const far = 1e4
		var want float64
		if len(p.rows) == 1 {
			want = highest(far, func(x float64) float64 { return dualAt(p, []float64{x}) })
		} else {
			want = highest(far, func(x float64) float64 {
				return highest(far, func(y float64) float64 { return dualAt(p, []float64{x, y}) })
			})
		}
		d := p.relax(200)
		// A relaxation that stops because it met a loss, or at its accuracy, is below by that at most.
		if d.bound > want+1e-6*math.Abs(want)+1e-7 || d.bound < want-1e-5*(1+math.Abs(want)) {
			t.Errorf("%d rows, %d heads, %d rules, at most %d: bound %v, want %v", len(p.rows), len(p.layer), p.R, p.k, d.bound, want)
		}
		compared++
	}
}
