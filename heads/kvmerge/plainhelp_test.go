package kvmerge

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/internal/num"
)

// plainMul returns a [m, k] times b [k, n].
func plainMul(a, b []float64, m, k, n int) []float64 {
	out := make([]float64, m*n)
	for i := range m {
		for j := range n {
			for l := range k {
				out[i*n+j] += a[i*k+l] * b[l*n+j]
			}
		}
	}
	return out
}

// plainTransposed returns the transpose of a [m, n].
func plainTransposed(a []float64, m, n int) []float64 {
	out := make([]float64, m*n)
	for i := range m {
		for j := range n {
			out[j*m+i] = a[i*n+j]
		}
	}
	return out
}

// plainEigen returns the eigenvalues of a symmetric matrix [n, n], descending, and the vectors as columns of v: cyclic Jacobi
// rotations.
func plainEigen(t testing.TB, a []float64, n int) (w, v []float64) {
	t.Helper()
	a, v = slices.Clone(a), scaledIdentity(n, 1)
	for sweep := 0; ; sweep++ {
		off, all := 0.0, 0.0
		for i := range n {
			for j := range n {
				all += a[i*n+j] * a[i*n+j]
				if i != j {
					off += a[i*n+j] * a[i*n+j]
				}
			}
		}
		if off <= 1e-30*all {
			break
		}
		if sweep == 50 {
			t.Fatal("plainEigen does not converge")
		}
		for p := range n {
			for q := p + 1; q < n; q++ {
				sin, cos := math.Sincos(0.5 * math.Atan2(2*a[p*n+q], a[p*n+p]-a[q*n+q]))
				for i := range n {
					x, y := a[i*n+p], a[i*n+q]
					a[i*n+p], a[i*n+q] = cos*x+sin*y, cos*y-sin*x
					x, y = v[i*n+p], v[i*n+q]
					v[i*n+p], v[i*n+q] = cos*x+sin*y, cos*y-sin*x
				}
				for i := range n {
					x, y := a[p*n+i], a[q*n+i]
					a[p*n+i], a[q*n+i] = cos*x+sin*y, cos*y-sin*x
				}
			}
		}
	}
	order := ascending(n)
	slices.SortFunc(order, func(i, j int) int {
		if a[i*n+i] > a[j*n+j] {
			return -1
		}
		return 1
	})
	w, sorted := make([]float64, n), make([]float64, n*n)
	for k, i := range order {
		w[k] = a[i*n+i]
		for r := range n {
			sorted[r*n+k] = v[r*n+i]
		}
	}
	return w, sorted
}

// plainFunction returns f of a symmetric matrix.
func plainFunction(t testing.TB, a []float64, n int, f func(x float64) float64) []float64 {
	t.Helper()
	w, v := plainEigen(t, a, n)
	left := slices.Clone(v)
	for i := range n {
		for j := range n {
			left[i*n+j] *= f(w[j])
		}
	}
	return plainMul(left, plainTransposed(v, n, n), n, n, n)
}

// plainInverse returns the inverse of a positive definite matrix.
func plainInverse(t testing.TB, a []float64, n int) []float64 {
	t.Helper()
	return plainFunction(t, a, n, func(x float64) float64 { return 1 / x })
}

func gaussian(rnd *rand.Rand, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = rnd.NormFloat64()
	}
	return out
}

func gaussian32(rnd *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rnd.NormFloat64())
	}
	return out
}

// randomForm returns a random positive semi-definite matrix [n, n] of a rank.
func randomForm(rnd *rand.Rand, n, rank int) []float64 {
	x := gaussian(rnd, rank*n)
	return plainMul(plainTransposed(x, rank, n), x, n, rank, n)
}

func randomRotation(rnd *rand.Rand, n int) []float64 {
	q := make([]float64, n*n)
	num.RandomOrthogonal(q, n, rnd, nil)
	return q
}

// apartBy returns the largest absolute difference, +Inf where there is a NaN.
func apartBy(t testing.TB, a, b []float64) float64 {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d values where %d are expected", len(a), len(b))
	}
	worst := 0.0
	for i := range a {
		d := math.Abs(a[i] - b[i])
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst
}

func largestOf(a []float64) float64 {
	most := 0.0
	for _, v := range a {
		most = max(most, math.Abs(v))
	}
	return most
}
