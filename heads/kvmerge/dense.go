package kvmerge

import (
	"math"

	"modelpress/internal/num"
)

// dense is what t heads have to share in r dimensions that no rotation binds: values, keys without positions, the rest of a partly
// rotary head. What member g loses, x_g - D_g·x̂, counts by the positive semi-definite form M_g: W_Oᵀ·W_O for values, the
// second moment of queries for keys.
type dense struct {
	t, r int
	c    []float64   // [t·r, t·r] second moment of the members' vectors, one behind the other
	m    [][]float64 // [t] forms [r, r]
	// damped lets heads of large forms count less against the others in pca: by the root of the trace.
	damped bool
}

// encoded holds maps [r, r] of each member.
type encoded struct{ enc, dec [][]float64 }

// merge makes the maps of a method.
func (d *dense) merge(method Method, keep int) (encoded, error) {
	switch method {
	case PCA:
		return d.pca()
	case Procrustes:
		return d.procrustes()
	}
	return d.plain(method, keep), nil
}

// plain is the mean of the members, or the member keep alone.
func (d *dense) plain(method Method, keep int) encoded {
	var out encoded
	for g := range d.t {
		w := 1 / float64(d.t)
		if method != Mean {
			w = 0
			if g == keep {
				w = 1
			}
		}
		out.enc = append(out.enc, scaledIdentity(d.r, w))
		out.dec = append(out.dec, scaledIdentity(d.r, 1))
	}
	return out
}

// pca keeps the r leading directions of the weighted vectors S_g·x_g, S_g = M_g^½: with B the top eigenvectors of S·C·S,
// E_g = B_gᵀ·S_g and D_g = S_g⁻¹·B_g, so that no other linear image of r numbers loses less (Eckart and Young). With M_g = 1 it is the
// group SVD of arXiv:2406.07056. x̂ is scaled to the mean size of the members, for caches of few bits.
func (d *dense) pca() (encoded, error) {
	n := d.t * d.r
	root, inverse := make([][]float64, d.t), make([][]float64, d.t)
	forms, mean := d.forms()
	for g, m := range forms {
		var err error
		if root[g], inverse[g], err = roots(m, d.r, mean); err != nil {
			return encoded{}, err
		}
	}
	a := d.weighted(root)
	w, v := make([]float64, d.r), make([]float64, d.r*n)
	if err := num.SymEigenTop(w, v, a, n, d.r, eigenTolerance, nil); err != nil {
		return encoded{}, err
	}
	var out encoded
	for g := range d.t {
		b := v[g*d.r:] // B_gᵀ, rows n apart
		enc, dec := make([]float64, d.r*d.r), make([]float64, d.r*d.r)
		num.GemmNN64(enc, d.r, b, n, root[g], d.r, d.r, d.r, d.r, 1, 0, nil)
		num.GemmNT64(dec, d.r, inverse[g], d.r, b, n, d.r, d.r, d.r, 1, 0, nil)
		out.enc, out.dec = append(out.enc, enc), append(out.dec, dec)
	}
	d.rescale(out)
	return out, nil
}

// forms returns the forms that pca weighs errors by, and their mean weight of a direction.
func (d *dense) forms() (forms [][]float64, mean float64) {
	for _, m := range d.m {
		f := trace(m, d.r)
		if d.damped && f > 0 {
			m = append([]float64(nil), m...)
			scale64(m, 1/math.Sqrt(f))
			f = math.Sqrt(f)
		}
		forms, mean = append(forms, m), mean+f/float64(d.t*d.r)
	}
	return forms, mean
}

// eigenTolerance is how far a vector may be from an eigenvector, relative to the largest eigenvalue.
const eigenTolerance = 1e-13

// weighted returns S·C·S.
func (d *dense) weighted(root [][]float64) []float64 {
	n, r := d.t*d.r, d.r
	a, half := make([]float64, n*n), make([]float64, r*r)
	for i := range d.t {
		for j := range d.t {
			num.GemmNN64(half, r, d.c[i*r*n+j*r:], n, root[j], r, r, r, r, 1, 0, nil)
			num.GemmNN64(a[i*r*n+j*r:], n, root[i], r, half, r, r, r, r, 1, 0, nil)
		}
	}
	return a
}

// rescale gives x̂ the mean energy of the members.
func (d *dense) rescale(e encoded) {
	f := scaleFor(d.energy(e.enc), trace(d.c, d.t*d.r)/float64(d.t))
	for g := range d.t {
		scale64(e.enc[g], f)
		scale64(e.dec[g], 1/f)
	}
}

func trace(m []float64, n int) float64 {
	sum := 0.0
	for i := range n {
		sum += m[i*n+i]
	}
	return sum
}

// energy is the second moment of x̂ = Σ E_g·x_g, summed over its dimensions.
func (d *dense) energy(enc [][]float64) float64 {
	return d.form(d.stack(enc), nil)
}

// stack puts maps [r, r] side by side: [r, t·r].
func (d *dense) stack(maps [][]float64) []float64 {
	n := d.t * d.r
	out := make([]float64, d.r*n)
	for g, m := range maps {
		for i := range d.r {
			copy(out[i*n+g*d.r:][:d.r], m[i*d.r:][:d.r])
		}
	}
	return out
}

// form returns tr(M·A·C·Aᵀ) for a [r, t·r]; M is 1 where it is nil.
func (d *dense) form(a, m []float64) float64 {
	n, r := d.t*d.r, d.r
	ac, aca := make([]float64, r*n), make([]float64, r*r)
	num.GemmNN64(ac, n, a, n, d.c, n, r, n, n, 1, 0, nil)
	num.GemmNT64(aca, r, ac, n, a, n, r, r, n, 1, 0, nil)
	sum := 0.0
	for i := range r {
		if m == nil {
			sum += aca[i*r+i]
			continue
		}
		sum += num.Dot64(m[i*r:][:r], aca[i*r:][:r])
	}
	return sum
}

// lost returns what each member loses, E[(x_g - D_g·x̂)ᵀ·M_g·(x_g - D_g·x̂)], and what it has, E[x_gᵀ·M_g·x_g].
func (d *dense) lost(e encoded) (lost, had []float64) {
	n, r := d.t*d.r, d.r
	enc := d.stack(e.enc)
	a := make([]float64, r*n)
	for g := range d.t {
		num.GemmNN64(a, n, e.dec[g], r, enc, n, r, n, r, -1, 0, nil)
		for i := range r {
			a[i*n+g*r+i]++
		}
		lost = append(lost, max(0, d.form(a, d.m[g])))
		sum := 0.0
		for i := range r {
			sum += num.Dot64(d.m[g][i*r:][:r], d.c[(g*r+i)*n+g*r:][:r])
		}
		had = append(had, max(0, sum))
	}
	return lost, had
}
