package quantize

import (
	"cmp"
	"slices"

	"modelpress/internal/num"
)

// problem is what GPTQ needs of the Hessian: the order of the columns and the factor of the inverse.
type problem struct {
	n    int
	perm []int     // column at each position; nil for the order they lie in
	dead []bool    // by column
	diag []float32 // by column: diagonal of the Hessian, relative to its largest entry
	u    []float64 // upper triangular with (H+damping)⁻¹ = Uᵀ·U, rows and columns by position
}

const maxRetries = 4 // each with ten times the damping

// newProblem factors the inverse of h with damping; reason is not empty where that fails. The attempts start from h each
// time, since a failed factorization leaves nothing of its input.
func newProblem(h []float64, n int, s Scheme, par Par, rep *Report) (p *problem, reason string) {
	p = &problem{n: n, dead: make([]bool, n), diag: make([]float32, n)}
	var sum, most float64
	for i := range n {
		d := h[i*n+i]
		if p.dead[i] = d == 0; p.dead[i] {
			rep.DeadColumns++
		}
		sum, most = sum+d, max(most, d)
	}
	if rep.DeadColumns == n {
		return nil, "every input was always 0"
	}
	mean := sum / float64(n-rep.DeadColumns)
	for i := range n {
		p.diag[i] = float32(h[i*n+i] / most)
	}
	if s.ActOrder {
		p.perm = make([]int, n)
		for i := range p.perm {
			p.perm[i] = i
		}
		slices.SortStableFunc(p.perm, func(a, b int) int { return cmp.Compare(h[b*n+b], h[a*n+a]) })
	}
	p.u = make([]float64, n*n)
	damp := s.Damp * mean
	for rep.Retries = 0; ; rep.Retries++ {
		rep.Damp = damp
		p.fill(h, mean, damp)
		err := num.CholeskyInverseUpper(p.u, n, par)
		if err == nil && notFinite(p.u) < 0 {
			return p, ""
		}
		if rep.Retries == maxRetries {
			return nil, "the Hessian is not positive definite at any damping tried"
		}
		damp = max(10*damp, 1e-8*mean)
	}
}

// fill sets u to the damped Hessian in the order of the columns. Dead columns are independent of the rest, with a diagonal
// that cannot make the matrix worse conditioned.
func (p *problem) fill(h []float64, mean, damp float64) {
	n := p.n
	for i := range n {
		row, from := p.u[i*n:(i+1)*n], h[p.column(i)*n:(p.column(i)+1)*n]
		if p.perm == nil {
			copy(row, from)
		} else {
			for j := range row {
				row[j] = from[p.perm[j]]
			}
		}
		if p.dead[p.column(i)] {
			clear(row)
			row[i] = mean
		}
		row[i] += damp
	}
}

// column returns the column at a position.
func (p *problem) column(i int) int {
	if p.perm == nil {
		return i
	}
	return p.perm[i]
}
