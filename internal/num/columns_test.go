package num

import (
	"fmt"
	"math"
	"testing"
)

var columnSizes = [][2]int{{0, 3}, {1, 1}, {5, 7}, {3, 128}, {2, 129}, {300, 257}, {1000, 40}}

// TestColumnDots: the products of f32 are exact in float64, so that the sum is that of a loop over rows, bit for bit, and
// joins what was there at the end; threads change nothing.
func TestColumnDots(t *testing.T) {
	for _, z := range columnSizes {
		rows, n := z[0], z[1]
		rng := newRand(uint64(rows + n))
		a, b, start := randoms(rng, rows*n), randoms(rng, rows*n), randoms64(rng, n)
		for _, b := range [][]float32{b, nil} {
			want := make([]float64, n)
			for i := range a {
				f := 1.0
				if b != nil {
					f = float64(b[i])
				}
				want[i%n] += float64(a[i]) * f
			}
			for j, v := range start {
				want[j] += v
			}
			for _, par := range []Par{nil, workers(2), workers(5)} {
				got := append([]float64(nil), start...)
				ColumnDots(got, a, b, rows, n, par)
				same(t, fmt.Sprint(z, b == nil), got, want)
			}
		}
	}
}

// TestColumnDotsIsTheSlope: they are the gradient by the factors of columns, by central differences, which are exact up to
// rounding since the loss is linear.
func TestColumnDotsIsTheSlope(t *testing.T) {
	const rows, n, h = 20, 9, 1.0 / 1024
	rng := newRand(3)
	x, dy, z := randoms(rng, rows*n), randoms(rng, rows*n), randoms(rng, n)
	loss := func(z []float32) (sum float64) {
		y := make([]float32, rows*n)
		ScaleColumns(y, x, z, rows, n, nil)
		for i, v := range y {
			sum += float64(v) * float64(dy[i])
		}
		return sum
	}
	want, got := make([]float64, n), make([]float64, n)
	for j := range want {
		up, down := append([]float32(nil), z...), append([]float32(nil), z...)
		up[j] += h
		down[j] -= h
		want[j] = (loss(up) - loss(down)) / (float64(up[j]) - float64(down[j]))
	}
	ColumnDots(got, x, dy, rows, n, nil)
	closeTo(t, "slopes", got, want, 1e-3)
}

func TestScaleColumns(t *testing.T) {
	for _, z := range columnSizes {
		rows, n := z[0], z[1]
		rng := newRand(uint64(rows * n))
		x, f := randoms(rng, rows*n), randoms(rng, n)
		want := make([]float32, rows*n)
		for i, v := range x {
			want[i] = float32(float64(v) * float64(f[i%n])) // the product is exact in float64
		}
		got, ok := guarded(t, make([]float32, rows*n))
		ScaleColumns(got, x, f, rows, n, workers(3))
		ok()
		same(t, fmt.Sprint(z), got, want)
		for i := range f {
			f[i] = 1
		}
		copy(want, x)
		ScaleColumns(x, x, f, rows, n, nil)
		same(t, fmt.Sprint("in place by ones ", z), x, want)
	}
}

// TestSumSquares: near the plain sum, the same for any threads, and exact where squares leave the range of f32.
func TestSumSquares(t *testing.T) {
	for _, n := range []int{0, 1, 3, 4, 5, 1000, squaresChunk, 2*squaresChunk + 7} {
		x := randoms(newRand(uint64(n)), n)
		want := 0.0
		for _, v := range x {
			want += float64(v) * float64(v)
		}
		got := SumSquares(x, nil)
		closeTo(t, fmt.Sprint(n), []float64{got}, []float64{want}, 1e-12)
		for threads := 2; threads <= 4; threads++ {
			if v := SumSquares(x, workers(threads)); v != got {
				t.Errorf("%d values: %v with %d threads, %v with one", n, v, threads, got)
			}
		}
	}
	for _, v := range []float32{1e38, 1e-40} {
		if got := SumSquares([]float32{v, v, v, v}, nil); got != 4*float64(v)*float64(v) {
			t.Errorf("four times %v squared: %v", v, got)
		}
	}
	if got := SumSquares([]float32{1, float32(math.NaN()), 2}, nil); got == got {
		t.Errorf("squares of NaN: %v", got)
	}
}
