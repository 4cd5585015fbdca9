package quantize

import (
	"cmp"
	"slices"

	"modelpress/internal/num"
)

// problem is what GPTQ needs of the Hessian: the order of the columns, and the factor R of the damped Hessian,
// R·Rᵀ with R upper triangular, rows and columns by position. With D = diag(R)² and A = R·diag(R)⁻¹, the Hessian is
// A·D·Aᵀ, and the error that GPTQ minimizes is the sum over columns k of D_k times the square of
//
//	e_k + Σ_{j<k} e_j*A[j,k],   e = w - q
//
// so that column k is rounded from w_k + Σ_{j<k} e_j*A[j,k] (the LDLQ form, QuIP section 3.1, arXiv:2307.13304, which its
// theorem 6 shows to be GPTQ). Neither the inverse of the Hessian nor a second factorization is needed.
//
// R stands in the upper half of the caller's matrix, whose lower half keeps the Hessian: no other memory of its size is used.
type problem struct {
	n     int
	perm  []int     // column at each position; nil for the order they lie in
	dead  []bool    // by column
	diag  []float32 // by column: diagonal of the Hessian, relative to its largest entry
	h     []float64 // the Hessian below the diagonal, R on and above it
	saved []float64 // by column: diagonal of the Hessian
}

const maxRetries = 4 // each with ten times the damping

// newProblem factors h with damping; reason is not empty where that fails. Who has a problem calls restore in the end.
func newProblem(h []float64, n int, s Scheme, par Par, rep *Report) (p *problem, reason string) {
	p = &problem{n: n, dead: make([]bool, n), diag: make([]float32, n), h: h, saved: make([]float64, n)}
	var sum, most float64
	for i := range n {
		d := h[i*n+i]
		if p.dead[i] = d == 0; p.dead[i] {
			rep.DeadColumns++
		}
		p.saved[i] = d
		sum, most = sum+d, max(most, d)
	}
	if rep.DeadColumns == n {
		return nil, "every input was always 0"
	}
	mean := sum / float64(n-rep.DeadColumns)
	for i, d := range p.saved {
		p.diag[i] = float32(d / most)
	}
	if s.ActOrder {
		p.perm = make([]int, n)
		for i := range p.perm {
			p.perm[i] = i
		}
		slices.SortStableFunc(p.perm, func(a, b int) int { return cmp.Compare(p.saved[b], p.saved[a]) })
	}
	damp := s.Damp * mean
	for rep.Retries = 0; ; rep.Retries++ {
		rep.Damp = damp
		if p.factor(mean, damp, par) {
			return p, ""
		}
		if rep.Retries == maxRetries {
			p.restore()
			return nil, "the Hessian is not positive definite at any damping tried"
		}
		damp = max(10*damp, 1e-8*mean)
	}
}

// factor factors the damped Hessian. The products that the Hessian is made of were in f32, and so are those here; where
// that is not enough, they are in f64.
func (p *problem) factor(mean, damp float64, par Par) bool {
	p.fill(mean, damp, par)
	if num.CholeskyUpperMixed(p.h, p.n, par) == nil {
		return true
	}
	p.fill(mean, damp, par)
	return num.CholeskyUpper(p.h, p.n, par) == nil
}

// restore puts the diagonal of the Hessian back.
func (p *problem) restore() {
	for i, d := range p.saved {
		p.h[i*p.n+i] = d
	}
}

// fill sets the upper half to the damped Hessian in the order of the columns. Dead columns are independent of the rest, with
// a diagonal that cannot make the matrix worse conditioned.
func (p *problem) fill(mean, damp float64, par Par) {
	n := p.n
	if p.perm == nil {
		num.MirrorLower(p.h, n, par)
	}
	forRows(n, par, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row, c := p.h[i*n:(i+1)*n], p.column(i)
			switch {
			case p.dead[c]:
				clear(row[i+1:])
			case p.perm != nil:
				for j := i + 1; j < n; j++ {
					a, b := max(c, p.perm[j]), min(c, p.perm[j])
					row[j] = p.h[a*n+b] // 0 where the other one is dead
				}
			}
		}
	})
	for i := range n {
		d := p.saved[p.column(i)]
		if p.dead[p.column(i)] {
			d = mean
		}
		p.h[i*n+i] = d + damp
	}
}

// column returns the column at a position.
func (p *problem) column(i int) int {
	if p.perm == nil {
		return i
	}
	return p.perm[i]
}

// panel sets dst, row by row of i2-i1 values, to rows [0, i2) and columns [i1, i2) of A, above the diagonal alone.
func (p *problem) panel(dst []float32, i1, i2 int, par Par) {
	w, inv := i2-i1, make([]float64, i2-i1)
	for k := range inv {
		inv[k] = 1 / p.h[(i1+k)*p.n+i1+k]
	}
	forRows(i2, par, func(lo, hi int) {
		for j := lo; j < hi; j++ {
			row, from := dst[j*w:(j+1)*w], p.h[j*p.n+i1:]
			for k := max(0, j+1-i1); k < w; k++ {
				row[k] = float32(from[k] * inv[k])
			}
		}
	})
}
