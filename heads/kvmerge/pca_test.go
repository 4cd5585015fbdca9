package kvmerge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// drawDense draws heads that resemble each other, counted by forms of different size.
func drawDense(rnd *rand.Rand, t, r int, damped bool) *dense {
	n := t * r
	d := &dense{t: t, r: r, damped: damped}
	mix := gaussian(rnd, n*r) // what they have in common
	d.c = plainMul(mix, plainTransposed(mix, n, r), n, r, n)
	for i, v := range randomForm(rnd, n, n) {
		d.c[i] += 0.5 * v
	}
	for g := range t {
		m := randomForm(rnd, r, 2*r)
		scale64(m, math.Pow(4, float64(g)))
		d.m = append(d.m, m)
	}
	return d
}

// weights are the forms that pca makes least errors in: those of d, in the damped case over the root of their traces.
func (d *dense) weights() [][]float64 {
	var out [][]float64
	for _, m := range d.m {
		m = slices.Clone(m)
		if tr := trace(m, d.r); d.damped && tr > 0 {
			scale64(m, 1/math.Sqrt(tr))
		}
		out = append(out, m)
	}
	return out
}

// plainLoss is Σ_g E[(x_g - D_g·x̂)ᵀ·M_g·(x_g - D_g·x̂)].
func plainLoss(d *dense, forms [][]float64, e encoded) float64 {
	n, r := d.t*d.r, d.r
	sum := 0.0
	for g := range d.t {
		a := make([]float64, r*n) // x_g - D_g·Σ E_h·x_h
		for h := range d.t {
			de := plainMul(e.dec[g], e.enc[h], r, r, r)
			for i := range r {
				for j := range r {
					a[i*n+h*r+j] = -de[i*r+j]
					if g == h && i == j {
						a[i*n+h*r+j]++
					}
				}
			}
		}
		cov := plainMul(plainMul(a, d.c, r, n, n), plainTransposed(a, r, n), r, n, r)
		sum += trace(plainMul(forms[g], cov, r, r, r), r)
	}
	return sum
}

// bestDecoders returns encoders with the decoders that lose least for them, whatever the forms: E[x_g·x̂ᵀ]·E[x̂·x̂ᵀ]⁻¹.
func bestDecoders(t *testing.T, d *dense, enc [][]float64) encoded {
	t.Helper()
	n, r := d.t*d.r, d.r
	stack := make([]float64, r*n)
	for g, m := range enc {
		for i := range r {
			copy(stack[i*n+g*r:][:r], m[i*r:][:r])
		}
	}
	cross := plainMul(d.c, plainTransposed(stack, r, n), n, n, r)
	all := plainMul(cross, plainInverse(t, plainMul(stack, cross, r, n, r), r), n, r, r)
	e := encoded{enc: enc}
	for g := range d.t {
		e.dec = append(e.dec, all[g*r*r:][:r*r])
	}
	return e
}

// moved returns maps with noise.
func (e encoded) moved(rnd *rand.Rand, by float64) encoded {
	move := func(maps [][]float64) (out [][]float64) {
		for _, m := range maps {
			m = slices.Clone(m)
			for i := range m {
				m[i] += by * rnd.NormFloat64()
			}
			out = append(out, m)
		}
		return out
	}
	return encoded{move(e.enc), move(e.dec)}
}

// TestPCAIsOptimal: no other linear image loses less in the norm that pca weighs by, and what it loses is the sum of the
// eigenvalues that it drops.
func TestPCAIsOptimal(t *testing.T) {
	for _, c := range []struct {
		t, r   int
		damped bool
	}{{2, 6, false}, {3, 4, true}, {4, 5, false}, {4, 3, true}, {2, 1, false}, {5, 2, true}} {
		rnd := rand.New(rand.NewPCG(uint64(c.t), uint64(c.r)))
		d := drawDense(rnd, c.t, c.r, c.damped)
		forms := d.weights()
		e, err := d.pca()
		if err != nil {
			t.Fatal(err)
		}
		least := plainLoss(d, forms, e)
		if want := droppedEigenvalues(t, d, forms); math.Abs(least-want) > 1e-9*want {
			t.Errorf("%+v: loses %g, the eigenvalues that are dropped sum to %g", c, least, want)
		}
		d.checkLost(t, e)
		rivals := map[string]encoded{"mean": d.plain(Mean, 0), "first": d.plain(First, 0), "select": d.plain(Select, best(d))}
		if rivals["procrustes"], err = d.procrustes(); err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			r := encoded{}
			for range d.t {
				r.enc = append(r.enc, gaussian(rnd, c.r*c.r))
			}
			rivals[fmt.Sprint("random ", i)] = bestDecoders(t, d, r.enc)
			rivals[fmt.Sprint("near ", i)] = bestDecoders(t, d, e.moved(rnd, 0.01).enc)
			rivals[fmt.Sprint("moved ", i)] = e.moved(rnd, 0.001)
		}
		for name, r := range rivals {
			if loss := plainLoss(d, forms, r); !(loss >= least*(1-1e-9)) {
				t.Errorf("%+v: pca loses %g, %s %g", c, least, name, loss)
			}
		}
	}
}

// droppedEigenvalues is the sum of all but the r largest eigenvalues of S·C·S, S_g² the form of g.
func droppedEigenvalues(t *testing.T, d *dense, forms [][]float64) float64 {
	t.Helper()
	n := d.t * d.r
	s := make([]float64, n*n)
	for g, m := range forms {
		root := plainFunction(t, m, d.r, math.Sqrt)
		for i := range d.r {
			copy(s[(g*d.r+i)*n+g*d.r:][:d.r], root[i*d.r:][:d.r])
		}
	}
	w, _ := plainEigen(t, plainMul(plainMul(s, d.c, n, n, n), s, n, n, n), n)
	return total(w[d.r:])
}

// checkLost compares lost with the plain loss, member by member.
func (d *dense) checkLost(t *testing.T, e encoded) {
	t.Helper()
	lost, had := d.lost(e)
	for g := range d.t {
		only := make([][]float64, d.t)
		for h := range only {
			only[h] = make([]float64, d.r*d.r)
		}
		only[g] = d.m[g]
		nothing := encoded{enc: e.enc}
		for range d.t {
			nothing.dec = append(nothing.dec, make([]float64, d.r*d.r))
		}
		near(t, "lost", lost[g], plainLoss(d, only, e), had[g])
		near(t, "had", had[g], plainLoss(d, only, nothing), had[g])
	}
}

// lossless reports how far D_g·Σ E_h·x_h is from x_g, over all second moments, relative to what there is.
func (d *dense) lossless(e encoded) float64 {
	ones := make([][]float64, d.t)
	for g := range ones {
		ones[g] = scaledIdentity(d.r, 1)
	}
	return plainLoss(d, ones, e) / trace(d.c, d.t*d.r)
}

func TestPCAOfOneHeadIsTheIdentity(t *testing.T) {
	for _, r := range []int{1, 2, 7, 32} {
		for _, damped := range []bool{false, true} {
			rnd := rand.New(rand.NewPCG(uint64(r), 8))
			d := drawDense(rnd, 1, r, damped)
			for _, rank := range []int{r, r / 2, 0} { // of the form: what it does not weigh comes back all the same
				d.m[0] = randomForm(rnd, r, rank)
				e, err := d.pca()
				if err != nil {
					t.Fatal(err)
				}
				if x := apartBy(t, plainMul(e.dec[0], e.enc[0], r, r, r), scaledIdentity(r, 1)); !(x <= 1e-12) {
					t.Errorf("r %d, form of rank %d, damped %t: D·E differs from 1 by %g", r, rank, damped, x)
				}
			}
		}
	}
}

// Where members are linear images of one vector, nothing is lost.
func TestPCAOfImagesLosesNothing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 8))
	for _, heads := range []int{2, 4} {
		const r = 6
		d := drawDense(rnd, heads, r, false)
		mix := gaussian(rnd, heads*r*r)
		d.c = plainMul(mix, plainTransposed(mix, heads*r, r), heads*r, r, heads*r)
		e, err := d.pca()
		if err != nil {
			t.Fatal(err)
		}
		if x := d.lossless(e); !(x <= 1e-12) {
			t.Errorf("%d heads lose %g", heads, x)
		}
	}
}

// Forms of low rank, zero forms and no values at all give maps that are finite and lose no more than others.
func TestPCAOfDegenerateForms(t *testing.T) {
	const heads, r = 3, 4
	for name, change := range map[string]func(rnd *rand.Rand, d *dense){
		"one form of low rank": func(rnd *rand.Rand, d *dense) { d.m[1] = randomForm(rnd, r, 2) },
		"all of low rank": func(rnd *rand.Rand, d *dense) {
			d.m = [][]float64{randomForm(rnd, r, 1), randomForm(rnd, r, 2), randomForm(rnd, r, 1)}
		},
		"one zero": func(_ *rand.Rand, d *dense) { d.m[0] = make([]float64, r*r) },
		"one zero, others small": func(_ *rand.Rand, d *dense) {
			d.m[2] = make([]float64, r*r)
			scale64(d.m[0], 1e-7)
			scale64(d.m[1], 1e-7)
		},
		"all zero": func(_ *rand.Rand, d *dense) {
			d.m = [][]float64{make([]float64, r*r), make([]float64, r*r), make([]float64, r*r)}
		},
		"small values": func(_ *rand.Rand, d *dense) { scale64(d.c, 1e-30) },
		"no values":    func(_ *rand.Rand, d *dense) { clear(d.c) },
		"one head without values": func(_ *rand.Rand, d *dense) {
			for i := range heads * r {
				for j := range heads * r {
					if i < r || j < r {
						d.c[i*heads*r+j] = 0
					}
				}
			}
		},
	} {
		for _, damped := range []bool{false, true} {
			rnd := rand.New(rand.NewPCG(4, 8))
			d := drawDense(rnd, heads, r, damped)
			change(rnd, d)
			e, err := d.pca()
			if err != nil {
				t.Fatal(err)
			}
			if !finite(slices.Concat(e.enc...)) || !finite(slices.Concat(e.dec...)) {
				t.Errorf("%s: maps that are not finite", name)
			}
			forms := d.weights()
			least, tol := plainLoss(d, forms, e), 1e-4*droppedAll(d, forms)
			for i := range 200 {
				var enc [][]float64
				for range heads {
					enc = append(enc, gaussian(rnd, r*r))
				}
				if name == "no values" {
					break // a random image has no energy to decode from
				}
				if loss := plainLoss(d, forms, bestDecoders(t, d, enc)); !(loss >= least-tol) {
					t.Errorf("%s, damped %t: pca loses %g, random maps %d %g", name, damped, least, i, loss)
					break
				}
			}
		}
	}
}

// droppedAll is what is lost where nothing is shared.
func droppedAll(d *dense, forms [][]float64) float64 {
	zero := encoded{}
	for range d.t {
		zero.enc, zero.dec = append(zero.enc, make([]float64, d.r*d.r)), append(zero.dec, make([]float64, d.r*d.r))
	}
	return plainLoss(d, forms, zero)
}

// A member that the output projection does not read takes nothing from the others.
func TestPCASharesNothingForUnreadHeads(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 8))
	const r = 4
	d := drawDense(rnd, 2, r, false)
	d.m[0] = make([]float64, r*r)
	for _, size := range []float64{1, 1e-8} {
		scale64(d.m[1], size)
		e, err := d.pca()
		if err != nil {
			t.Fatal(err)
		}
		if lost, had := d.lost(e); !(lost[1] <= 1e-4*had[1]) || lost[0] != 0 {
			t.Errorf("form of size %g: the head that is read loses %g of %g", size, lost[1], had[1])
		}
	}
}

// Maps are scaled so that what is shared is as large as the members are on average.
func TestPCAScale(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 8))
	for _, size := range []float64{1, 1e-6, 1e6} {
		d := drawDense(rnd, 3, 5, false)
		scale64(d.c, size)
		e, err := d.pca()
		if err != nil {
			t.Fatal(err)
		}
		near(t, "energy of values", d.energy(e.enc), trace(d.c, 15)/3, trace(d.c, 15))
		p := drawPairs(rnd, 3)
		for i := range p.c {
			p.c[i] *= complex(size, 0)
		}
		m, err := p.pca()
		if err != nil {
			t.Fatal(err)
		}
		have := real(p.c[0]+p.c[4]+p.c[8]) / 3
		near(t, "energy of keys", p.energy(m.enc), have, have)
	}
}
