package num

import (
	"errors"
	"fmt"
	"math"
	"testing"
)

// symmetric returns test matrices of size n by name: with random, clustered, repeated and graded eigenvalues.
func symmetric(n int) map[string][]float64 {
	m := map[string][]float64{"zero": make([]float64, n*n)}
	a := make([]float64, n*n)
	rng := newRand(uint64(n))
	for i := range n {
		for j := range i + 1 {
			a[i*n+j] = rng.NormFloat64()
			a[j*n+i] = a[i*n+j]
		}
	}
	m["random"] = a
	q := make([]float64, n*n)
	RandomOrthogonal(q, n, newRand(uint64(n)), nil)
	for name, value := range map[string]func(i int) float64{
		"identity":  func(i int) float64 { return 1 },
		"repeated":  func(i int) float64 { return float64(i % 3) },
		"clustered": func(i int) float64 { return 1 + float64(i/4)*1e-14 + float64(i%4) },
		"graded":    func(i int) float64 { return math.Pow(2, -float64(i)) },
		"low rank":  func(i int) float64 { return max(0, float64(5-i)) },
		"huge":      func(i int) float64 { return 1e300 * float64(i+1) / float64(n) },
	} {
		b, c := make([]float64, n*n), make([]float64, n*n)
		for i := range n {
			for j := range n {
				b[i*n+j] = q[i*n+j] * value(i)
			}
		}
		GemmTN64(c, n, q, n, b, n, n, n, n, 1, 0, nil)
		m[name] = c
	}
	// Wilkinson's matrix: tridiagonal, its largest eigenvalues in pairs that agree to all digits.
	w := make([]float64, n*n)
	for i := range n {
		w[i*n+i] = math.Abs(float64(i) - float64(n-1)/2)
		if i+1 < n {
			w[i*n+i+1], w[(i+1)*n+i] = 1, 1
		}
	}
	m["wilkinson"] = w
	return m
}

// checkEigen fails unless w and the rows of v are the eigenvalues and vectors of a, of which the upper half counts.
func checkEigen(t *testing.T, a, w, v []float64, n, rows int) {
	t.Helper()
	full := append([]float64(nil), a...)
	top := 0.0
	for i := range n {
		for j := range i {
			full[i*n+j] = full[j*n+i]
		}
	}
	for _, x := range full {
		top = max(top, math.Abs(x))
	}
	for i := range full {
		full[i] /= max(top, 1e-300)
	}
	av, one := make([]float64, rows*n), make([]float64, rows*rows)
	GemmNN64(av, n, v, n, full, n, rows, n, n, 1, 0, nil)
	GemmNT64(one, rows, v, n, v, n, rows, rows, n, 1, 0, nil)
	tol := 4e-15 * float64(n+10)
	for i := range rows {
		one[i*rows+i]--
		for j := range n {
			if r := av[i*n+j] - w[i]/max(top, 1e-300)*v[i*n+j]; !(math.Abs(r) <= tol) {
				t.Fatalf("A·v - λ·v of vector %d is %v at %d", i, r, j)
			}
		}
	}
	for i, x := range one {
		if !(math.Abs(x) <= tol) {
			t.Fatalf("vectors %d and %d: product off by %v", i/rows, i%rows, x)
		}
	}
}

func TestSymEigen(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 10, 32, 33, 64, 65, 100, 150, 257} {
		for name, a := range symmetric(n) {
			t.Run(fmt.Sprint(name, "/", n), func(t *testing.T) {
				v, w := append([]float64(nil), a...), make([]float64, n)
				for i := range n {
					for j := range i {
						v[i*n+j] = math.NaN() // not read
					}
				}
				if err := SymEigen(w, v, n, workers(2)); err != nil {
					t.Fatal(err)
				}
				for i := 1; i < n; i++ {
					if w[i] < w[i-1] {
						t.Fatal("eigenvalues not ascending")
					}
				}
				checkEigen(t, a, w, v, n, n)
			})
		}
	}
}

// The second difference matrix, whose eigenvalues are known.
func TestSymEigenValues(t *testing.T) {
	const n = 300
	a, w := make([]float64, n*n), make([]float64, n)
	for i := range n {
		a[i*n+i] = 2
		if i+1 < n {
			a[i*n+i+1] = -1
		}
	}
	if err := SymEigen(w, a, n, nil); err != nil {
		t.Fatal(err)
	}
	for i, v := range w {
		if s := math.Sin(math.Pi * float64(i+1) / (2 * (n + 1))); math.Abs(v-4*s*s) > 1e-13 {
			t.Errorf("eigenvalue %d is %v, want %v", i, v, 4*s*s)
		}
	}
}

func TestSymEigenThreads(t *testing.T) {
	const n = 300
	a := symmetric(n)["random"]
	var want []float64
	for threads := 1; threads <= 3; threads++ {
		v, w := append([]float64(nil), a...), make([]float64, n)
		if err := SymEigen(w, v, n, workers(threads)); err != nil {
			t.Fatal(err)
		}
		if v = append(v, w...); want == nil {
			want = v
		}
		same(t, "vectors and values", v, want)
	}
}

func TestSymEigenRefusesNotFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if err := SymEigen(make([]float64, 2), []float64{1, bad, 0, 1}, 2, nil); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func BenchmarkSymEigen(b *testing.B) {
	for _, n := range []int{256, 1024, 2048} {
		a := symmetricRandom(n)
		v, w := make([]float64, n*n), make([]float64, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bench(b, 14.0/3*float64(n)*float64(n)*float64(n), func() {
				copy(v, a)
				if err := SymEigen(w, v, n, workers(2)); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func symmetricRandom(n int) []float64 {
	a := randoms64(newRand(uint64(n)), n*n)
	for i := range n {
		for j := range i {
			a[i*n+j] = a[j*n+i]
		}
	}
	return a
}
