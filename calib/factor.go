package calib

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"modelpress/internal/num"
)

// Factor is what methods that correct weights column by column need of a Hessian: the order of the columns, and the factor R
// of the damped Hessian, R·Rᵀ with R upper triangular, rows and columns by position. With D = diag(R)² and
// A = R·diag(R)⁻¹, the Hessian is A·D·Aᵀ, and the error tr(E·H·Eᵀ) of a change e = w - q of one row of weights is the sum
// over columns k of D_k times the square of
//
//	e_k + Σ_{j<k} e_j*A[j,k]
//
// so that column k is best replaced for w_k + Σ_{j<k} e_j*A[j,k] (the LDLQ form, QuIP section 3.1, arXiv:2307.13304, which
// its theorem 6 shows to be GPTQ). D_k is 1/[H_F⁻¹]_kk, F the columns from k on: the reciprocal of the square of the diagonal
// of the Cholesky factor of the inverse that GPTQ and SparseGPT speak of. Neither the inverse of the Hessian nor a second
// factorization is needed.
//
// R stands in the upper half of the caller's matrix, whose lower half keeps the Hessian: no other memory of its size is used.
type Factor struct {
	N           int
	H           []float64 // [N, N]: the Hessian below the diagonal, R on and above it; nil where a device has them
	Perm        []int     // column at each position; nil for the order they lie in
	Dead        []bool    // by column: its input was always 0
	Diag        []float64 // by column: diagonal of the Hessian
	Damp        float64   // what was added to the diagonal
	Retries     int       // failed attempts with less damping
	DeadColumns int
	Reason      string // why there is no factor; "" where there is one
}

const maxRetries = 4 // each with ten times the damping

// FactorHessian factors the Hessian h [n, n], of which the half on and below the diagonal is read and what lies above is
// overwritten. damp is the share of the mean of the diagonal that is added to it; where the sum is not positive definite, up
// to 10,000 times as much. descending orders the columns by the diagonal, largest first; else they stay as they are. Entries
// must be finite (CheckHessian). Where nothing helps, Reason says so. The diagonal is replaced until Restore is called, which the
// caller does in the end if he needs h.
func FactorHessian(h []float64, n int, damp float64, descending bool, par func(n int, body func(i int))) *Factor {
	f := &Factor{N: n, H: h, Diag: make([]float64, n)}
	for i := range n {
		f.Diag[i] = h[i*n+i]
	}
	f.search(damp, descending, func(mean float64) bool { return f.factor(mean, par) })
	if f.Reason != "" {
		f.Restore()
	}
	return f
}

// search finds the order of the columns, and the least damping of those tried with which try factors the Hessian; mean is that of the
// diagonal.
func (f *Factor) search(damp float64, descending bool, try func(mean float64) bool) {
	f.Dead = make([]bool, f.N)
	var sum float64
	for i, d := range f.Diag {
		if f.Dead[i] = d == 0; f.Dead[i] {
			f.DeadColumns++
		}
		sum += d
	}
	if f.DeadColumns == f.N {
		f.Reason = "every input was always 0"
		return
	}
	mean := sum / float64(f.N-f.DeadColumns)
	if descending {
		f.Perm = make([]int, f.N)
		for i := range f.Perm {
			f.Perm[i] = i
		}
		slices.SortStableFunc(f.Perm, func(a, b int) int { return cmp.Compare(f.Diag[b], f.Diag[a]) })
	}
	for f.Damp = damp * mean; ; f.Retries++ {
		if try(mean) {
			return
		}
		if f.Retries == maxRetries {
			f.Reason = "the Hessian is not positive definite at any damping tried"
			return
		}
		f.Damp = max(10*f.Damp, 1e-8*mean)
	}
}

// factor factors the damped Hessian. The products that the Hessian is made of were in f32, and so are those here; where
// that is not enough, they are in f64.
func (f *Factor) factor(mean float64, par func(n int, body func(i int))) bool {
	f.fill(mean, par)
	if num.CholeskyUpperMixed(f.H, f.N, par) == nil {
		return true
	}
	f.fill(mean, par)
	return num.CholeskyUpper(f.H, f.N, par) == nil
}

// Restore puts the diagonal of the Hessian back. What lies above it has no meaning afterwards.
func (f *Factor) Restore() {
	for i, d := range f.Diag {
		f.H[i*f.N+i] = d
	}
}

// fill sets the upper half to the damped Hessian in the order of the columns. Dead columns are independent of the rest, with
// a diagonal that cannot make the matrix worse conditioned.
func (f *Factor) fill(mean float64, par func(n int, body func(i int))) {
	n := f.N
	if f.Perm == nil {
		num.MirrorLower(f.H, n, par)
	}
	eachRow(n, par, func(i int) {
		row, c := f.H[i*n:(i+1)*n], f.Column(i)
		switch {
		case f.Dead[c]:
			clear(row[i+1:])
		case f.Perm != nil:
			for j := i + 1; j < n; j++ {
				a, b := max(c, f.Perm[j]), min(c, f.Perm[j])
				row[j] = f.H[a*n+b] // 0 where the other one is dead
			}
		}
	})
	for i := range n {
		f.H[i*n+i] = f.damped(f.Column(i), mean)
	}
}

// damped returns what stands on the diagonal for a column.
func (f *Factor) damped(c int, mean float64) float64 {
	if f.Dead[c] {
		return mean + f.Damp
	}
	return f.Diag[c] + f.Damp
}

// Column returns the column at a position.
func (f *Factor) Column(i int) int {
	if f.Perm == nil {
		return i
	}
	return f.Perm[i]
}

// Panel sets dst, row by row of i2-i1 values, to rows [0, i2) and columns [i1, i2) of A, above the diagonal alone.
func (f *Factor) Panel(dst []float32, i1, i2 int, par func(n int, body func(i int))) {
	w, inv := i2-i1, make([]float64, i2-i1)
	for k := range inv {
		inv[k] = 1 / f.H[(i1+k)*f.N+i1+k]
	}
	eachRow(i2, par, func(j int) {
		row, from := dst[j*w:(j+1)*w], f.H[j*f.N+i1:]
		for k := max(0, j+1-i1); k < w; k++ {
			row[k] = float32(from[k] * inv[k])
		}
	})
}

// CheckHessian returns an error for the first entry of h [n, n], row by row on and below the diagonal, that cannot be one of a
// Hessian: not finite, or negative on the diagonal.
func CheckHessian(h []float64, n int, par func(n int, body func(i int))) error {
	if len(h) != n*n {
		panic(fmt.Sprintf("calib: %d values of a Hessian [%d, %d]", len(h), n, n))
	}
	bad := make([]int, n)
	eachRow(n, par, func(i int) {
		bad[i] = slices.IndexFunc(h[i*n:i*n+i+1], func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	})
	for i, j := range bad {
		if j >= 0 {
			return notFiniteError(i, j, h[i*n+j])
		}
		if h[i*n+i] < 0 {
			return negativeError(i, h[i*n+i])
		}
	}
	return nil
}

func notFiniteError(i, j int, v float64) error { return fmt.Errorf("Hessian [%d, %d] is %v", i, j, v) }

func negativeError(i int, v float64) error {
	return fmt.Errorf("Hessian [%d, %d] is %v: a diagonal entry is never negative", i, i, v)
}

// eachRow runs body for each of n rows, chunk by chunk.
func eachRow(n int, par func(n int, body func(i int)), body func(i int)) {
	const rows = 64
	chunks := (n + rows - 1) / rows
	chunk := func(c int) {
		for i := c * rows; i < min((c+1)*rows, n); i++ {
			body(i)
		}
	}
	if par != nil {
		par(chunks, chunk)
		return
	}
	for c := range chunks {
		chunk(c)
	}
}
