package num

import (
	"errors"
	"math"
)

// ErrNotPositiveDefinite is returned where a pivot of a Cholesky factorisation is not a positive finite number.
var ErrNotPositiveDefinite = errors.New("num: matrix is not positive definite")

// leaf is the size at which the recursions over triangles end.
const leaf = 32

// small holds a triangle of at most leaf rows, leaf apart.
type small [leaf * leaf]float64

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

// CholeskyUpper factors the symmetric matrix a [n, n], of which it reads the upper half, as R·Rᵀ with R upper triangular,
// and writes R over that half. It neither reads nor writes what lies below the diagonal. On ErrNotPositiveDefinite the upper
// half holds a partial result.
//
// It is Cholesky with the order of rows and columns reversed: R22 = chol(A22), R12 = A12·R22⁻ᵀ, R11 = chol(A11 - R12·R12ᵀ).
func CholeskyUpper(a []float64, n int, par Par) error {
	checkDims("CholeskyUpper", n)
	checkMat("CholeskyUpper", "a", len(a), n, n, n)
	return choleskyUpper(a, n, n, products64{}, par)
}

// CholeskyUpperMixed is CholeskyUpper with the products of large blocks in f32, summed in f64 over every 1024: twice as
// fast, and R·Rᵀ differs from a by some 2⁻²¹ of |R|·|R|ᵀ, whatever n. That is enough for second moments, whose own products
// are in f32. It may refuse what CholeskyUpper factors where the smallest eigenvalue is not far above that difference.
func CholeskyUpperMixed(a []float64, n int, par Par) error {
	checkDims("CholeskyUpperMixed", n)
	checkMat("CholeskyUpperMixed", "a", len(a), n, n, n)
	return choleskyUpper(a, n, n, products32{}, par)
}

// products are those that the recursions over triangles leave most of their work to.
type products interface {
	// subtract computes c [m, n] -= a·bᵀ for a [m, k] and b [n, k], in a region.
	subtract(c []float64, ldc int, a []float64, lda int, b []float64, ldb, m, n, k int, g region, par Par)
}

type products64 struct{}

func (products64) subtract(c []float64, ldc int, a []float64, lda int, b []float64, ldb, m, n, k int, g region, par Par) {
	if g != whole {
		subtractGram(c, ldc, a, lda, n, k, g, par)
		return
	}
	gemm(kernel64, c, ldc, operand[float64]{v: a, ld: lda}, operand[float64]{v: b, ld: ldb}, m, n, k, -1, 1, par)
}

// subtractGram subtracts b·bᵀ from the region of c [n, n], for b [n, k].
func subtractGram(c []float64, ldc int, b []float64, ldb, n, k int, g region, par Par) {
	s := pool64.Get().(*scratch[float64])
	defer pool64.Put(s)
	all := operand[float64]{v: b, ld: ldb}
	rows := split(max(n, 1), chunkM, kernel64.mr)
	for i := 0; i < n; i += rows {
		m, from, to := min(rows, n-i), 0, n
		if g == lower {
			to = i + m
		} else if g == upper {
			from = i
		}
		p := newPass(kernel64, c[i*ldc+from:], ldc, all.from(i), all.from(from), m, to-from, k, -1, 1)
		p.region, p.first = g, i-from
		p.run(s, par)
	}
}

// products32 are in f32 where they are large.
type products32 struct{}

func (products32) subtract(c []float64, ldc int, a []float64, lda int, b []float64, ldb, m, n, k int, g region, par Par) {
	if min(m, n, k) < 3*leaf {
		products64{}.subtract(c, ldc, a, lda, b, ldb, m, n, k, g, par)
		return
	}
	addWideProduct(c, ldc, a, lda, b, ldb, m, n, k, -1, g, par)
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
	subtractGram(a22, lda, a21, lda, n-h, h, lower, par)
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

// choleskyUpper factors the upper half of the leading n by n of a.
func choleskyUpper(a []float64, lda, n int, by products, par Par) error {
	if n <= leaf {
		return choleskyUpperLeaf(a, lda, n)
	}
	h := n - half(n)
	a12, a22 := a[h:], a[h*lda+h:]
	if err := choleskyUpper(a22, lda, n-h, by, par); err != nil {
		return err
	}
	solveRightUpperT(a12, lda, h, a22, lda, n-h, by, par)
	by.subtract(a, lda, a12, lda, a12, lda, h, h, n-h, upper, par)
	return choleskyUpper(a, lda, h, by, par)
}

// choleskyUpperLeaf is the factorisation row by row, from the last one: r[i,j] = (a[i,j] - Σ_{p>j} r[i,p]*r[j,p]) / r[j,j].
func choleskyUpperLeaf(a []float64, lda, n int) error {
	for i := n - 1; i >= 0; i-- {
		row := a[i*lda:][:n]
		for j := n - 1; j > i; j-- {
			row[j] = (row[j] - Dot64(row[j+1:], a[j*lda:][j+1:n])) / a[j*lda+j]
		}
		d := row[i] - Dot64(row[i+1:], row[i+1:])
		if !(d > 0) || math.IsInf(d, 1) {
			return ErrNotPositiveDefinite
		}
		row[i] = math.Sqrt(d)
	}
	return nil
}

// half returns where a triangle of size n > leaf is cut: a multiple of leaf near the middle.
func half(n int) int { return max(leaf, n/2/leaf*leaf) }

func clearUpper(a []float64, n int) {
	for i := range n {
		clear(a[i*n+i+1 : (i+1)*n])
	}
}
