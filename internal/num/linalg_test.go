package num

import (
	"errors"
	"fmt"
	"math"
	"testing"
)

// positive returns a random positive definite matrix.
func positive(seed uint64, n int) []float64 {
	x := randoms64(newRand(seed), n*(n+8))
	a := make([]float64, n*n)
	GemmNT64(a, n, x, n+8, x, n+8, n, n, n+8, 1, 0, nil)
	for i := range n {
		a[i*n+i] += 0.1
	}
	return a
}

func TestCholesky(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 31, 32, 33, 65, 200, 333} {
		a := positive(uint64(n), n)
		l := append([]float64(nil), a...)
		if err := Cholesky(l, n, workers(2)); err != nil {
			t.Fatal(n, err)
		}
		back := make([]float64, n*n)
		GemmNT64(back, n, l, n, l, n, n, n, n, 1, 0, nil)
		closeTo(t, fmt.Sprint("L·Lᵀ ", n), back, a, 1e-11)
		for i := range n {
			for j := i + 1; j < n; j++ {
				if l[i*n+j] != 0 {
					t.Fatal("upper half not cleared")
				}
			}
		}
	}
}

func TestCholeskyUpper(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 31, 32, 33, 65, 200, 333} {
		a := positive(uint64(n), n)
		r := append([]float64(nil), a...)
		for i := range n {
			for j := range i {
				r[i*n+j] = math.NaN() // not read, and not written
			}
		}
		if err := CholeskyUpper(r, n, workers(2)); err != nil {
			t.Fatal(n, err)
		}
		for i := range n {
			for j := range i {
				if !math.IsNaN(r[i*n+j]) {
					t.Fatal("lower half written")
				}
				r[i*n+j] = 0
			}
		}
		back := make([]float64, n*n)
		GemmNT64(back, n, r, n, r, n, n, n, n, 1, 0, nil)
		closeTo(t, fmt.Sprint("R·Rᵀ ", n), back, a, 1e-11)
	}
}

// TestCholeskyUpperMixed: R·Rᵀ differs from the matrix by f32 roundings of |R|·|R|ᵀ, and the lower half is left alone.
func TestCholeskyUpperMixed(t *testing.T) {
	for _, n := range []int{0, 1, 33, 200, 333, 2200} {
		a := positive(uint64(n), n)
		r := append([]float64(nil), a...)
		for i := range n {
			for j := range i {
				r[i*n+j] = math.NaN()
			}
		}
		if err := CholeskyUpperMixed(r, n, workers(2)); err != nil {
			t.Fatal(n, err)
		}
		size := make([]float64, n*n)
		for i := range n {
			for j := range n {
				if j < i {
					if !math.IsNaN(r[i*n+j]) {
						t.Fatal("lower half written")
					}
					r[i*n+j] = 0
				}
				size[i*n+j] = math.Abs(r[i*n+j])
			}
		}
		back, bound := make([]float64, n*n), make([]float64, n*n)
		GemmNT64(back, n, r, n, r, n, n, n, n, 1, 0, workers(2))
		GemmNT64(bound, n, size, n, size, n, n, n, n, 1, 0, workers(2))
		worst := 0.0
		for i := range back {
			worst = max(worst, math.Abs(back[i]-a[i])/bound[i])
		}
		if worst > 0x1p-20 {
			t.Errorf("%d: off by %.3g of |R|·|R|ᵀ", n, worst)
		}
		again := append([]float64(nil), a...)
		if err := CholeskyUpperMixed(again, n, nil); err != nil {
			t.Fatal(n, err)
		}
		for i := range n {
			same(t, fmt.Sprint("threads ", n, " ", i), again[i*n+i:(i+1)*n], r[i*n+i:(i+1)*n])
		}
	}
}

func TestCholeskyRefusesIndefinite(t *testing.T) {
	for _, n := range []int{1, 40, 100} {
		for _, bad := range []float64{-1, 0, math.NaN(), math.Inf(1)} {
			a := positive(3, n)
			a[n*n-1] = bad
			b := append([]float64(nil), a...)
			if err := Cholesky(a, n, nil); !errors.Is(err, ErrNotPositiveDefinite) {
				t.Errorf("Cholesky %d %v: %v", n, bad, err)
			}
			if err := CholeskyUpper(b, n, nil); !errors.Is(err, ErrNotPositiveDefinite) {
				t.Errorf("CholeskyUpper %d %v: %v", n, bad, err)
			}
		}
	}
}

func TestCholeskyThreads(t *testing.T) {
	const n = 700
	a := positive(9, n)
	var want []float64
	for threads := 1; threads <= 3; threads++ {
		u, v := append([]float64(nil), a...), append([]float64(nil), a...)
		if err := errors.Join(Cholesky(u, n, workers(threads)), CholeskyUpper(v, n, workers(threads))); err != nil {
			t.Fatal(err)
		}
		u = append(u, v...)
		if want == nil {
			want = u
		}
		same(t, "L and R", u, want)
	}
}

func TestRandomOrthogonal(t *testing.T) {
	for _, n := range []int{1, 2, 9, 64, 150} {
		q := make([]float64, n*n)
		RandomOrthogonal(q, n, newRand(5), workers(2))
		one := make([]float64, n*n)
		GemmTN64(one, n, q, n, q, n, n, n, n, 1, 0, nil)
		for i := range n {
			one[i*n+i]--
		}
		closeTo(t, "QᵀQ - 1", one, make([]float64, n*n), 1e-13)
		r := make([]float64, n*n)
		RandomOrthogonal(r, n, newRand(5), nil)
		same(t, "again", r, q)
	}
}

func TestHadamard(t *testing.T) {
	for _, n := range []int{1, 2, 8, 12, 20, 24, 28, 36, 40, 44, 48, 52, 60, 108, 140, 148, 312, 344, 688, 896} {
		if !HadamardSizeOK(n) {
			t.Errorf("no matrix of size %d", n)
			continue
		}
		h := make([]float64, n*n)
		for i := range n {
			h[i*n+i] = 1
			Hadamard(h[i*n:][:n])
			for _, v := range h[i*n:][:n] {
				if math.Abs(math.Abs(v)*math.Sqrt(float64(n))-1) > 1e-12 {
					t.Fatalf("%d: entry %v is not ±1/sqrt(n)", n, v)
				}
			}
		}
		one := make([]float64, n*n)
		GemmNT64(one, n, h, n, h, n, n, n, n, 1, 0, nil)
		for i := range n {
			one[i*n+i]--
		}
		closeTo(t, fmt.Sprint("H·Hᵀ - 1, ", n), one, make([]float64, n*n), 1e-13)

		x := randoms64(newRand(1), n)
		y := append([]float64(nil), x...)
		Hadamard(y)
		HadamardT(y)
		closeTo(t, "back", y, x, 1e-13)
		x32 := randoms(newRand(1), n)
		y32 := append([]float32(nil), x32...)
		Hadamard32(y32)
		Hadamard32T(y32)
		closeTo(t, "back, f32", y32, x32, 1e-5)
	}
	for _, n := range []int{14336, 11008, 18944, 3584, 5120} {
		if !HadamardSizeOK(n) {
			t.Errorf("no matrix of size %d", n)
		}
	}
	for _, n := range []int{-4, 0, 3, 6, 7, 30} {
		if HadamardSizeOK(n) {
			t.Errorf("a matrix of size %d", n)
		}
	}
}
