package kvmerge

import (
	"math"
	"math/cmplx"

	"modelpress/internal/num"
)

// alignRounds bounds generalized Procrustes analysis, alignGain is the relative gain at which it ends.
const (
	alignRounds = 100
	alignGain   = 1e-9
)

// procrustes turns every member by an orthogonal Q_g towards their common mean, which begins as the first member, until the
// agreement Σ tr(Q_gᵀ·E[x_g·mᵀ]) grows no more, and shares the mean: E_g = Q_gᵀ/t, D_g = Q_g (generalized Procrustes analysis, Gower,
// Psychometrika 40, 1975; AlignGQA). All of it needs only the second moments.
func (d *dense) procrustes() (encoded, error) {
	r := d.r
	q := make([][]float64, d.t) // x_g turned is Q_gᵀ·x_g
	for g := range q {
		q[g] = scaledIdentity(r, 1)
	}
	mean := [][]float64{scaledIdentity(r, 1)} // m = Σ mean_gᵀ·x_g, from the first member only at the start
	before := 0.0
	for round := range alignRounds {
		now := 0.0
		for g := range d.t {
			a := d.cross(g, mean)
			polar(q[g], a, r)
			now += num.Dot64(q[g], a)
		}
		mean = mean[:0]
		for g := range d.t {
			m := append([]float64(nil), q[g]...)
			scale64(m, 1/float64(d.t))
			mean = append(mean, m)
		}
		if round > 1 && now <= before*(1+alignGain) { // the agreement of round 0 is that with the first member
			break
		}
		before = now
	}
	var out encoded
	for g := range d.t {
		out.enc, out.dec = append(out.enc, transposed(mean[g], r)), append(out.dec, q[g])
	}
	return out, nil
}

// cross returns E[x_g·mᵀ] with m = Σ_h mean_hᵀ·x_h.
func (d *dense) cross(g int, mean [][]float64) []float64 {
	n, r := d.t*d.r, d.r
	a := make([]float64, r*r)
	for h, m := range mean {
		num.GemmNN64(a, r, d.c[g*r*n+h*r:], n, m, r, r, r, r, 1, 1, nil)
	}
	return a
}

func transposed(m []float64, r int) []float64 { return transposedOf(m, r, r) }

// procrustes is that of dense with a phase for each member: the rotations of a pair of dimensions.
func (p *pairs) procrustes() pairMaps {
	phase := make([]complex128, p.t) // z_g turned is phase_g·z_g
	for g := range phase {
		phase[g] = 1
	}
	mean := []complex128{1} // m = Σ mean_g·z_g
	before := 0.0
	for round := range alignRounds {
		now := 0.0
		for g := range p.t {
			var a complex128 // E[m·conj(z_g)]
			for h, m := range mean {
				a += m * p.c[h*p.t+g]
			}
			if abs := cmplx.Abs(a); abs > 0 {
				phase[g] = a / complex(abs, 0)
				now += abs
			}
		}
		mean = mean[:0]
		for _, f := range phase {
			mean = append(mean, f/complex(float64(p.t), 0))
		}
		if round > 1 && now <= before*(1+alignGain) { // the agreement of round 0 is that with the first member
			break
		}
		before = now
	}
	out := pairMaps{enc: mean}
	for _, f := range phase {
		out.dec = append(out.dec, cmplx.Conj(f))
	}
	return out
}

// polar writes the orthogonal matrix nearest to a [r, r] to q: U·Vᵀ of a's singular value decomposition, by one-sided Jacobi
// rotations (Hestenes, SIAM J. 6, 1958). Directions in which a is zero keep those of the old q as far as they can.
func polar(q, a []float64, r int) {
	u, v := transposed(a, r), scaledIdentity(r, 1) // rows: columns of a·V, and of V
	for range 60 {
		if !sweep(u, v, r) {
			break
		}
	}
	largest := 0.0
	length := make([]float64, r)
	for i := range r {
		length[i] = math.Sqrt(num.Dot64(u[i*r:][:r], u[i*r:][:r]))
		largest = max(largest, length[i])
	}
	var basis [][]float64
	var empty []int
	for i := range r {
		row := u[i*r:][:r]
		if length[i] <= 1e-13*largest || length[i] == 0 {
			empty = append(empty, i)
			continue
		}
		scale64(row, 1/length[i])
		basis = append(basis, row)
	}
	old := append([]float64(nil), q...)
	for _, i := range empty {
		complete(u[i*r:][:r], v[i*r:][:r], old, basis)
		basis = append(basis, u[i*r:][:r])
	}
	num.GemmTN64(q, r, u, r, v, r, r, r, r, 1, 0, nil)
}

// sweep makes all pairs of rows of u orthogonal once, turning the rows of v along. It reports whether anything was left to do.
func sweep(u, v []float64, r int) bool {
	turned := false
	for i := range r {
		for j := i + 1; j < r; j++ {
			x, y := u[i*r:][:r], u[j*r:][:r]
			xx, yy, xy := num.Dot64(x, x), num.Dot64(y, y), num.Dot64(x, y)
			if math.Abs(xy) <= 1e-15*math.Sqrt(xx*yy) {
				continue
			}
			turned = true
			zeta := (yy - xx) / (2 * xy)
			t := math.Copysign(1, zeta) / (math.Abs(zeta) + math.Sqrt(1+zeta*zeta))
			c := 1 / math.Sqrt(1+t*t)
			turn(x, y, c, c*t)
			turn(v[i*r:][:r], v[j*r:][:r], c, c*t)
		}
	}
	return turned
}

func turn(x, y []float64, c, s float64) {
	for i, a := range x {
		b := y[i]
		x[i], y[i] = c*a-s*b, s*a+c*b
	}
}

// complete makes dst a unit vector orthogonal to the basis: old·v as far as that is one, else the first coordinate axis that is.
func complete(dst, v, old []float64, basis [][]float64) {
	r := len(dst)
	for i := range r {
		dst[i] = num.Dot64(old[i*r:][:r], v)
	}
	for axis := -1; ; axis++ {
		if axis >= 0 {
			clear(dst)
			dst[axis] = 1
		}
		for range 2 {
			for _, b := range basis {
				num.Axpy64(dst, -num.Dot64(dst, b), b)
			}
		}
		if n := math.Sqrt(num.Dot64(dst, dst)); n > 1e-3 || axis == r-1 {
			scale64(dst, 1/n)
			return
		}
	}
}
