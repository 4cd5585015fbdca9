package num

import (
	"errors"
	"math"
)

// ErrNotFinite is returned where a matrix holds a value that is NaN or infinite.
var ErrNotFinite = errors.New("num: matrix has values that are not finite")

// SymEigen computes all eigenvalues and eigenvectors of the symmetric matrix a [n, n]: w [n] in ascending order, and over
// a the vectors as rows, so that the old a = aᵀ·diag(w)·a with the new one. It reads the upper half of a and fails with
// ErrNotFinite alone. Each vector's sign is such that its component of largest magnitude (the first of equals) is positive.
//
// Three steps, of which all but half of the first are matrix products: reduction to tridiagonal form by blocked Householder
// reflections (Dongarra, Sorensen and Hammarling, JCAM 27, 1989), divide and conquer on that (tridiagonal.go), and the
// reflections applied to its vectors in blocks. Scratch is 3*n*n values and a little.
func SymEigen(w, a []float64, n int, par Par) error {
	checkDims("SymEigen", n)
	checkMat("SymEigen", "a", len(a), n, n, n)
	checkLen("SymEigen", "w", len(w), n)
	if n == 0 {
		return nil
	}
	a, w = a[:n*n], w[:n]
	scale, err := scaleSymmetric(a, n)
	if err != nil {
		return err
	}
	e, tau := make([]float64, n), make([]float64, n)
	tridiagonalize(a, n, w, e, tau, par)
	z := make([]float64, n*n)
	newSecular(n, par).solve(w, e, z, n)
	reflectBack(z, a, tau, n, par)
	for i := range w {
		w[i] *= scale
	}
	byRows(par, n, n, func(i int) {
		row := z[i*n:][:n]
		top := 0.0
		for _, v := range row {
			if math.Abs(v) > math.Abs(top) {
				top = v
			}
		}
		sign := math.Copysign(1, top)
		for j, v := range row {
			a[i*n+j] = sign * v
		}
	})
	return nil
}

// scaleSymmetric copies the upper half of a to the lower one and divides by the power of two next to its largest
// magnitude, which it returns.
func scaleSymmetric(a []float64, n int) (float64, error) {
	top := 0.0
	for i := range n {
		for _, v := range a[i*n+i : (i+1)*n] {
			if math.IsNaN(v) {
				return 0, ErrNotFinite
			}
			top = max(top, math.Abs(v))
		}
	}
	if math.IsInf(top, 0) {
		return 0, ErrNotFinite
	}
	exp := 0
	if top > 0 {
		_, exp = math.Frexp(top)
	}
	for i := range n {
		row := a[i*n:]
		for j := i; j < n; j++ {
			row[j] = math.Ldexp(row[j], -exp)
			a[j*n+i] = row[j]
		}
	}
	return math.Ldexp(1, exp), nil
}

// reflectors is how many reflections make a block.
const reflectors = 32

// tridiagonalize reduces the symmetric a, both halves of it, to the tridiagonal with diagonal d and off-diagonal
// e[0..n-2] by reflections I - tau[c]*v·vᵀ, c ascending; v, whose first value is 1, is left at [c, c+1..n-1] of a.
//
// Within a block of columns the rest of the matrix is not touched: with the reflections V and W = A·V corrected for the
// block so far, the current matrix is A - V·Wᵀ - W·Vᵀ, and that is subtracted at the end of the block.
func tridiagonalize(a []float64, n int, d, e, tau []float64, par Par) {
	u := make([]float64, 3*reflectors*n) // rows of V, of W, and of V again: both factors are consecutive rows
	parts := make([]float64, 8*n)
	for k := 0; k < n; k += reflectors {
		cols := min(reflectors, n-k)
		v, w := u[:cols*n], u[cols*n:2*cols*n]
		for p := range cols {
			c := k + p
			row := a[c*n+c : (c+1)*n]
			for q := range p {
				Axpy64(row, -v[q*n+c], w[q*n+c:][:n-c])
				Axpy64(row, -w[q*n+c], v[q*n+c:][:n-c])
			}
			d[c] = row[0]
			clear(v[p*n:][:n])
			clear(w[p*n:][:n])
			if c == n-1 {
				break
			}
			e[c], tau[c] = reflection(row[1:])
			copy(v[p*n+c+1:], row[1:])
			image(w[p*n:], v, w, a, parts, n, c, p, tau[c], par)
		}
		if rest := k + cols; rest < n {
			copy(u[2*cols*n:3*cols*n], v)
			GemmTN64(a[rest*n+rest:], n, u[rest:], n, u[cols*n+rest:], n, n-rest, n-rest, 2*cols, -1, 1, par)
		}
	}
}

// reflection overwrites x with the v, v[0] = 1, of the reflection that takes x to a multiple beta of the first unit vector.
func reflection(x []float64) (beta, tau float64) {
	rest := math.Sqrt(Dot64(x[1:], x[1:]))
	if rest == 0 {
		beta = x[0]
		x[0] = 1
		return beta, 0
	}
	beta = -math.Copysign(math.Hypot(x[0], rest), x[0])
	tau = (beta - x[0]) / beta
	inv := 1 / (x[0] - beta)
	for i := range x {
		x[i] *= inv
	}
	x[0] = 1
	return beta, tau
}

// image computes row p of W, for column c: y - tau/2*(y·v)*v for y = tau times the current
// matrix times v.
func image(dst, v, w, a, parts []float64, n, c, p int, tau float64, par Par) {
	lo := c + 1
	x, y := v[p*n+lo:][:n-lo], dst[lo:n]
	symv(y, a[lo*n+lo:], n, x, parts, par)
	for q := range p {
		vq, wq := v[q*n+lo:][:n-lo], w[q*n+lo:][:n-lo]
		alpha, beta := Dot64(wq, x), Dot64(vq, x)
		for i := range y {
			y[i] -= float64(alpha*vq[i]) + float64(beta*wq[i])
		}
	}
	for i := range y {
		y[i] *= tau
	}
	Axpy64(y, -tau/2*Dot64(y, x), x)
}

// reflectBack multiplies the rows of z by the reflections that tridiagonalize left in a, last one first. A block of them,
// in ascending order, is I - Yᵀ·T·Y with the vectors as rows of Y and T upper triangular (Schreiber and Van Loan, SIAM J.
// Sci. Stat. Comput. 10, 1989).
func reflectBack(z, a, tau []float64, n int, par Par) {
	const size = 2 * reflectors
	y, t, gram := make([]float64, size*n), make([]float64, size*size), make([]float64, size*size)
	p, q := make([]float64, n*size), make([]float64, n*size)
	for k := (n - 1) / size * size; k >= 0; k -= size {
		cols := min(size, n-1-k)
		if cols <= 0 {
			continue
		}
		lo := k + 1 // no vector reaches further left
		width := n - lo
		clear(y)
		for c := range cols {
			copy(y[c*width+c:(c+1)*width], a[(k+c)*n+k+c+1:])
		}
		GemmNT64(gram, cols, y, width, y, width, cols, cols, width, 1, 0, par)
		clear(t)
		for c := range cols {
			f := tau[k+c]
			t[c*cols+c] = f
			for i := range c {
				var s float64
				for l := i; l < c; l++ {
					s += float64(t[i*cols+l] * gram[l*cols+c])
				}
				t[i*cols+c] = -f * s
			}
		}
		GemmNT64(p, cols, z[lo:], n, y, width, n, cols, width, 1, 0, par)
		GemmNT64(q, cols, p, cols, t, cols, n, cols, cols, 1, 0, par)
		GemmNN64(z[lo:], n, q, cols, y, width, n, width, cols, -1, 1, par)
	}
}
