package kvmerge

import (
	"math"
	"math/cmplx"
	"math/rand/v2"
	"slices"
	"testing"
)

// plainPolar is U·Vᵀ of a of full rank: a·(aᵀ·a)^-½.
func plainPolar(t *testing.T, a []float64, r int) []float64 {
	t.Helper()
	gram := plainMul(plainTransposed(a, r, r), a, r, r, r)
	return plainMul(a, plainFunction(t, gram, r, func(x float64) float64 { return 1 / math.Sqrt(x) }), r, r, r)
}

func checkOrthogonal(t *testing.T, what string, q []float64, r int) {
	t.Helper()
	if d := apartBy(t, plainMul(plainTransposed(q, r, r), q, r, r, r), scaledIdentity(r, 1)); !(d <= 1e-12) {
		t.Fatalf("%s: Qᵀ·Q differs from 1 by %g", what, d)
	}
}

// agreement is tr(Qᵀ·a).
func agreement(q, a []float64) float64 {
	sum := 0.0
	for i := range q {
		sum += q[i] * a[i]
	}
	return sum
}

// TestPolarAgainstPlainSVD: the nearest orthogonal matrix, which agrees with a more than any other.
func TestPolarAgainstPlainSVD(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 11))
	for _, r := range []int{1, 2, 3, 8, 33} {
		for _, size := range []float64{1, 1e-40, 1e40} {
			a := gaussian(rnd, r*r)
			want := plainPolar(t, a, r)
			trace0 := agreement(want, a)
			scale64(a, size)
			q := gaussian(rnd, r*r) // what stood there does not matter
			polar(q, a, r)
			checkOrthogonal(t, "polar", q, r)
			if d := apartBy(t, q, want); !(d <= 1e-9) {
				t.Errorf("r %d, size %g: differs by %g", r, size, d)
			}
			scale64(a, 1/size)
			for range 200 {
				other := randomRotation(rnd, r)
				if x := agreement(other, a); x > trace0*(1+1e-12) {
					t.Fatalf("r %d: a rotation agrees by %g, polar by %g", r, x, trace0)
				}
				// also the rotations next to it: exp of a small skew matrix, by its polar factor
				near := slices.Clone(want)
				for i := range near {
					near[i] += 1e-3 * rnd.NormFloat64()
				}
				if r > 8 {
					continue
				}
				if x := agreement(plainPolar(t, near, r), a); x > trace0*(1+1e-12) {
					t.Fatalf("r %d: a rotation nearby agrees by %g, polar by %g", r, x, trace0)
				}
			}
		}
	}
}

// TestPolarOfLowRank: directions of which a says nothing keep the old rotation.
func TestPolarOfLowRank(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 11))
	const r = 8
	for _, rank := range []int{0, 1, 3, 7} {
		old := randomRotation(rnd, r)
		x := gaussian(rnd, rank*r)
		second := plainMul(plainTransposed(x, rank, r), x, r, rank, r)
		// a = old·second: both the rotation of what is there and the rest are old's.
		q := slices.Clone(old)
		polar(q, plainMul(old, second, r, r, r), r)
		checkOrthogonal(t, "old agrees", q, r)
		if d := apartBy(t, q, old); !(d <= 1e-7) {
			t.Errorf("rank %d: the old rotation changes by %g", rank, d)
		}
		// A random one: orthogonal and of the greatest agreement, which is that of what a determines.
		a := plainMul(randomRotation(rnd, r), second, r, r, r)
		q = slices.Clone(old)
		polar(q, a, r)
		checkOrthogonal(t, "random", q, r)
		want := 0.0 // the sum of singular values
		if rank > 0 {
			w, _ := plainEigen(t, plainMul(plainTransposed(a, r, r), a, r, r, r), r)
			for _, v := range w[:rank] {
				want += math.Sqrt(v)
			}
		}
		near(t, "agreement", agreement(q, a), want, want)
	}
	zero := make([]float64, r*r)
	q := make([]float64, r*r) // no rotation at all: some other one must be found
	polar(q, zero, r)
	checkOrthogonal(t, "nothing", q, r)
}

// turnedHeads are heads x_g = R_g·x_0.
func turnedHeads(rnd *rand.Rand, heads, r, rank int) (d *dense, turns [][]float64) {
	d = &dense{t: heads, r: r}
	all := make([]float64, 0, heads*r*r)
	for g := range heads {
		turns = append(turns, randomRotation(rnd, r))
		if g == 0 {
			turns[0] = scaledIdentity(r, 1)
		}
		all = append(all, turns[g]...)
		d.m = append(d.m, randomForm(rnd, r, r))
	}
	n := heads * r
	d.c = plainMul(plainMul(all, randomForm(rnd, r, rank), n, r, r), plainTransposed(all, n, r), n, r, n)
	return d, turns
}

func TestProcrustesRecoversRotations(t *testing.T) {
	for _, c := range []struct{ heads, r, rank int }{{1, 4, 4}, {2, 6, 6}, {3, 1, 1}, {4, 5, 5}, {2, 16, 16}, {4, 6, 3}, {3, 4, 0}} {
		rnd := rand.New(rand.NewPCG(uint64(c.heads), 12))
		d, turns := turnedHeads(rnd, c.heads, c.r, c.rank)
		e, err := d.procrustes()
		if err != nil {
			t.Fatal(err)
		}
		for g := range c.heads {
			checkOrthogonal(t, "decoder", e.dec[g], c.r)
			scaled := plainTransposed(e.dec[g], c.r, c.r)
			scale64(scaled, 1/float64(c.heads))
			if x := apartBy(t, e.enc[g], scaled); x > 1e-15 {
				t.Errorf("%+v: encoder %d is not Qᵀ/t, by %g", c, g, x)
			}
			if c.rank < c.r {
				continue // the rotation is not determined
			}
			relative := plainMul(e.dec[g], plainTransposed(e.dec[0], c.r, c.r), c.r, c.r, c.r)
			if x := apartBy(t, relative, turns[g]); !(x <= 1e-9) {
				t.Errorf("%+v: rotation %d differs by %g", c, g, x)
			}
		}
		if c.rank > 0 {
			if x := d.lossless(e); !(x <= 1e-12) {
				t.Errorf("%+v: loses %g", c, x)
			}
		}
	}
}

// The agreement of heads among each other is no worse than without a turn, and no rotation of one head improves it.
func TestProcrustesIsALocalOptimum(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 12))
	const heads, r = 4, 5
	ones := make([][]float64, heads)
	for g := range ones {
		ones[g] = scaledIdentity(r, 1)
	}
	for range 5 {
		d := drawDense(rnd, heads, r, false)
		e, err := d.procrustes()
		if err != nil {
			t.Fatal(err)
		}
		least := plainLoss(d, ones, e)
		if m := plainLoss(d, ones, d.plain(Mean, 0)); !(least < m) {
			t.Errorf("loses %g, the mean %g", least, m)
		}
		for range 100 {
			g := rnd.IntN(heads)
			q := slices.Clone(e.dec[g])
			for i := range q {
				q[i] += 0.01 * rnd.NormFloat64()
			}
			q = plainPolar(t, q, r)
			other := encoded{slices.Clone(e.enc), slices.Clone(e.dec)}
			other.dec[g] = q
			other.enc[g] = plainTransposed(q, r, r)
			scale64(other.enc[g], 1.0/heads)
			if loss := plainLoss(d, ones, other); !(loss >= least*(1-1e-4)) { // the last rounds gain little
				t.Errorf("loses %g, turned a little %g", least, loss)
			}
		}
	}
}

func TestPairProcrustesRecoversPhases(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 12))
	for heads := 1; heads <= 5; heads++ {
		p := &pairs{t: heads, c: make([]complex128, heads*heads)}
		z := make([]complex128, heads)
		for g := range z {
			z[g] = cmplx.Rect(1, 6*rnd.Float64())
			p.q = append(p.q, rnd.Float64())
		}
		for a := range z {
			for b := range z {
				p.c[a*heads+b] = 7 * z[a] * cmplx.Conj(z[b])
			}
		}
		m := p.procrustes()
		for g := range z {
			if d := cmplx.Abs(m.dec[g]/m.dec[0] - z[g]/z[0]); !(d <= 1e-9) {
				t.Errorf("%d heads: phase %d differs by %g", heads, g, d)
			}
			if d := cmplx.Abs(m.enc[g]*complex(float64(heads), 0) - cmplx.Conj(m.dec[g])); !(d <= 1e-15) || math.Abs(cmplx.Abs(m.dec[g])-1) > 1e-12 {
				t.Errorf("%d heads: encoder %v, decoder %v", heads, m.enc[g], m.dec[g])
			}
		}
		if loss := plainPairLoss(p, p.q, m); !(loss <= 1e-12) {
			t.Errorf("%d heads lose %g", heads, loss)
		}
	}
	nothing := &pairs{t: 3, c: make([]complex128, 9), q: make([]float64, 3)}
	for _, z := range nothing.procrustes().dec {
		if z != 1 {
			t.Errorf("phase %v of nothing", z)
		}
	}
}

// In random heads the phases are a local optimum, better than none.
func TestPairProcrustesIsALocalOptimum(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 12))
	for range 10 {
		const heads = 4
		p := drawPairs(rnd, heads)
		for h := range heads { // the first one is much larger than the mean of all
			p.c[h] *= 5
			p.c[h*heads] *= 5
		}
		ones := []float64{1, 1, 1, 1}
		m := p.procrustes()
		least := plainPairLoss(p, ones, m)
		mean, err := p.merge(Mean, 0)
		if err != nil {
			t.Fatal(err)
		}
		if loss := plainPairLoss(p, ones, mean); !(loss >= least) {
			t.Errorf("loses %g, the mean %g", least, loss)
		}
		for range 100 {
			g, f := rnd.IntN(heads), cmplx.Rect(1, 0.1*rnd.NormFloat64())
			other := pairMaps{slices.Clone(m.enc), slices.Clone(m.dec)}
			other.enc[g] *= f
			other.dec[g] /= f
			if loss := plainPairLoss(p, ones, other); !(loss >= least*(1-1e-6)) {
				t.Errorf("loses %g, turned a little %g", least, loss)
			}
		}
	}
}
