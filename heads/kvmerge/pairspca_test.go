package kvmerge

import (
	"math"
	"math/cmplx"
	"math/rand/v2"
	"testing"
)

// drawPairs draws heads of correlated complex numbers with queries of different size.
func drawPairs(rnd *rand.Rand, t int) *pairs {
	p := &pairs{t: t, c: make([]complex128, t*t)}
	for range t + 1 {
		z := make([]complex128, t)
		common := complex(rnd.NormFloat64(), rnd.NormFloat64())
		for g := range z {
			z[g] = complex(rnd.NormFloat64(), rnd.NormFloat64()) + common*complex(1, float64(g))
		}
		for a := range t {
			for b := range t {
				p.c[a*t+b] += z[a] * cmplx.Conj(z[b])
			}
		}
	}
	for g := range t {
		p.q = append(p.q, (0.5+rnd.Float64())*math.Pow(9, float64(g)))
	}
	return p
}

// plainPairLoss is Σ_g w_g·E|z_g - D_g·z^|².
func plainPairLoss(p *pairs, w []float64, m pairMaps) float64 {
	sum := 0.0
	for g := range p.t {
		row := make([]complex128, p.t)
		for h := range row {
			row[h] = -m.dec[g] * m.enc[h]
			if g == h {
				row[h]++
			}
		}
		for a := range p.t {
			for b := range p.t {
				sum += w[g] * real(row[a]*p.c[a*p.t+b]*cmplx.Conj(row[b]))
			}
		}
	}
	return sum
}

// dampedWeights are those that pca of keys makes least errors in.
func (p *pairs) dampedWeights() []float64 {
	var out []float64
	for _, q := range p.q {
		out = append(out, math.Sqrt(q))
	}
	return out
}

// TestPairPCAIsOptimal: for two heads against all directions of a grid over phases and magnitudes, for more against random ones.
func TestPairPCAIsOptimal(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		heads := 2 + int(seed)%3
		p := drawPairs(rnd, heads)
		w := p.dampedWeights()
		m, err := p.pca()
		if err != nil {
			t.Fatal(err)
		}
		least := plainPairLoss(p, w, m)
		for _, r := range append(pairRivals(rnd, p, w), p.procrustes()) {
			if loss := plainPairLoss(p, w, r); !(loss >= least*(1-1e-12)) {
				t.Fatalf("%d heads: pca loses %g, %v %g", heads, least, r, loss)
			}
		}
		if heads == 2 {
			grid := math.Inf(1)
			for _, r := range pairRivals(rnd, p, w) {
				grid = min(grid, plainPairLoss(p, w, r))
			}
			if grid > least*1.01 {
				t.Errorf("the grid finds %g, pca loses %g", grid, least)
			}
		}
		lost, had := p.lost(m)
		near(t, "lost", total(lost), plainPairLoss(p, p.q, m), total(had))
	}
}

// pairRivals lists projections onto a direction of the weighted numbers, by a grid for two heads.
func pairRivals(rnd *rand.Rand, p *pairs, w []float64) []pairMaps {
	var out []pairMaps
	add := func(u []complex128) {
		norm := 0.0
		for _, z := range u {
			norm += real(z)*real(z) + imag(z)*imag(z)
		}
		m := pairMaps{}
		for g, z := range u {
			z /= complex(math.Sqrt(norm), 0)
			s := complex(math.Sqrt(w[g]), 0)
			m.enc, m.dec = append(m.enc, cmplx.Conj(z)*s), append(m.dec, z/s)
		}
		out = append(out, m)
	}
	const steps = 200
	for i := range steps {
		for j := range steps {
			if p.t == 2 {
				sin, cos := math.Sincos(math.Pi / 2 * float64(i) / (steps - 1))
				add([]complex128{complex(cos, 0), cmplx.Rect(sin, 2*math.Pi*float64(j)/steps)})
			} else if i == 0 {
				u := make([]complex128, p.t)
				for g := range u {
					u[g] = complex(rnd.NormFloat64(), rnd.NormFloat64())
				}
				add(u)
			}
		}
	}
	return out
}

func TestPairPCADegenerates(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 9))
	one := drawPairs(rnd, 1)
	for _, q := range []float64{one.q[0], 0} {
		one.q[0] = q
		m, err := one.pca()
		if err != nil || cmplx.Abs(m.dec[0]*m.enc[0]-1) > 1e-12 || cmplx.Abs(m.enc[0]-1) > 1e-12 {
			t.Errorf("one head: %v, %v", m, err)
		}
	}
	p := drawPairs(rnd, 3)
	none := &pairs{t: 3, c: make([]complex128, 9), q: p.q}
	unread := &pairs{t: 3, c: p.c, q: make([]float64, 3)}
	for _, x := range []*pairs{none, unread} {
		m, err := x.pca()
		if err != nil {
			t.Fatal(err)
		}
		for g := range 3 {
			if cmplx.IsNaN(m.enc[g]) || cmplx.IsInf(m.dec[g]) {
				t.Errorf("%v", m)
			}
		}
		if lost, _ := x.lost(m); total(lost) != 0 {
			t.Errorf("loses %v of nothing", lost)
		}
	}
	p.q[0], p.q[1] = 0, 0 // only the third head is asked
	m, err := p.pca()
	if err != nil {
		t.Fatal(err)
	}
	if lost, had := p.lost(m); !(lost[2] <= 1e-2*had[2]) {
		t.Errorf("the head that is asked loses %g of %g", lost[2], had[2])
	}
}
