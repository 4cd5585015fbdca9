package num

import (
	"errors"
	"math"
)

// ErrNotPositiveDefinite is returned where a pivot of a Cholesky factorisation is not a positive finite number.
var ErrNotPositiveDefinite = errors.New("num: matrix is not positive definite")

// leaf is the size at which the recursions over triangles end.
const leaf = 32

// Cholesky factors the symmetric matrix a [n, n], of which it reads the lower half, as L·Lᵀ and writes L over it; the
// upper half becomes zero. On ErrNotPositiveDefinite a holds a partial result.
//
// The recursion halves the matrix: L11 = chol(A11), L21 = A21·L11⁻ᵀ, L22 = chol(A22 - L21·L21ᵀ).
func Cholesky(a []float64, n int, par Par) error {
	checkDims("Cholesky", n)
	checkMat("Cholesky", "a", len(a), n, n, n)
	if err := cholesky(a, n, n, par); err != nil {
		return err
	}
	clearUpper(a, n)
	return nil
}

// CholeskyInverseUpper overwrites the symmetric positive definite h [n, n], of which it reads the upper half, with the
// upper triangular U for which h⁻¹ = Uᵀ·U. With J the reversal of indices and L = chol(J·h·J), U = J·L⁻¹·J, which
// takes one factorisation and one triangular inverse instead of two factorisations and an inverse.
func CholeskyInverseUpper(h []float64, n int, par Par) error {
	checkDims("CholeskyInverseUpper", n)
	checkMat("CholeskyInverseUpper", "h", len(h), n, n, n)
	h = h[:n*n]
	reverse(h) // J·h·J is h read backwards, and its lower half is the upper half of h
	if err := cholesky(h, n, n, par); err != nil {
		return err
	}
	invertLower(h, n, n, par)
	clearUpper(h, n)
	reverse(h)
	for _, v := range h {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return ErrNotPositiveDefinite
		}
	}
	return nil
}

// cholesky factors the lower half of the leading n by n of a.
func cholesky(a []float64, lda, n int, par Par) error {
	if n <= leaf {
		return choleskyLeaf(a, lda, n)
	}
	h := half(n)
	if err := cholesky(a, lda, h, par); err != nil {
		return err
	}
	a21, a22 := a[h*lda:], a[h*lda+h:]
	solveRightT(a21, lda, n-h, a, lda, h, par)
	syrkLower(a22, lda, a21, lda, n-h, h, par)
	return cholesky(a22, lda, n-h, par)
}

// choleskyLeaf is the factorisation row by row: l[i,j] = (a[i,j] - Σ_{p<j} l[i,p]*l[j,p]) / l[j,j].
func choleskyLeaf(a []float64, lda, n int) error {
	for i := range n {
		row := a[i*lda:]
		for j := range i {
			row[j] = (row[j] - Dot64(row[:j], a[j*lda:])) / a[j*lda+j]
		}
		d := row[i] - Dot64(row[:i], row)
		if !(d > 0) || math.IsInf(d, 1) {
			return ErrNotPositiveDefinite
		}
		row[i] = math.Sqrt(d)
	}
	return nil
}

// syrkLower subtracts b·bᵀ from the lower half of c, for b [n, k], and from at most some of the upper half.
func syrkLower(c []float64, ldc int, b []float64, ldb, n, k int, par Par) {
	edge := triangleEdge(n)
	side := ceilDiv(n, edge)
	each(par, side*(side+1)/2, func(t int) {
		i, j := triangle(t)
		i, j = i*edge, j*edge
		gemmTile(kernel64, c[i*ldc+j:], ldc, operand[float64]{v: b[i*ldb:], ld: ldb}, operand[float64]{v: b[j*ldb:], ld: ldb},
			min(edge, n-i), min(edge, n-j), k, -1, 1, i == j)
	})
}

// half returns where a triangle of size n > leaf is cut: a multiple of leaf near the middle.
func half(n int) int { return max(leaf, n/2/leaf*leaf) }

func clearUpper(a []float64, n int) {
	for i := range n {
		clear(a[i*n+i+1 : (i+1)*n])
	}
}

func reverse(a []float64) {
	for i, j := 0, len(a)-1; i < j; i, j = i+1, j-1 {
		a[i], a[j] = a[j], a[i]
	}
}
