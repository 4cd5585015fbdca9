package num

import (
	"fmt"
	"testing"
)

// product is y + alpha*a·b in float64, a and b given by element.
func product(y []float32, ldy, m, n, k int, a, b func(i, l int) float32, alpha, beta float64) []float64 {
	out := make([]float64, len(y))
	for i, v := range y {
		out[i] = float64(v)
	}
	for i := range m {
		for j := range n {
			s := 0.0
			for l := range k {
				s += float64(a(i, l)) * float64(b(j, l))
			}
			old := 0.0
			if beta != 0 {
				old = beta * out[i*ldy+j]
			}
			out[i*ldy+j] = alpha*s + old
		}
	}
	return out
}

var gemmSizes = [][3]int{
	{1, 1, 1}, {1, 33, 7}, {7, 8, 9}, {13, 31, 256}, {14, 32, 257}, {15, 33, 31}, {31, 65, 300}, {6, 16, 8}, {5, 3, 0}, {0, 4, 4}, {4, 0, 4},
	{57, 129, 513}, {450, 40, 20}, {20, 530, 20},
}

func TestGemmAgainstFloat64(t *testing.T) {
	rng := newRand(1)
	for _, s := range gemmSizes {
		m, n, k := s[0], s[1], s[2]
		for pad := 0; pad < 4; pad += 3 {
			for _, beta := range []float32{0, 1, -0.5} {
				t.Run(fmt.Sprint(m, n, k, pad, beta), func(t *testing.T) {
					x, xt := randoms(rng, m*(k+pad)), randoms(rng, k*(m+pad))
					w, wt := randoms(rng, n*(k+pad)), randoms(rng, k*(n+pad))
					y0 := randoms(rng, m*(n+pad))
					row := func(v []float32, ld int) func(i, l int) float32 { return func(i, l int) float32 { return v[i*ld+l] } }
					col := func(v []float32, ld int) func(i, l int) float32 { return func(i, l int) float32 { return v[l*ld+i] } }

					y, ok := guarded(t, y0)
					gx, okx := guarded(t, x)
					gw, okw := guarded(t, w)
					GemmNT(y, n+pad, gx, k+pad, F32Weights(gw, k+pad), m, n, k, beta, nil)
					ok()
					okx()
					okw()
					closeTo(t, "NT", y, product(y0, n+pad, m, n, k, row(x, k+pad), row(w, k+pad), 1, float64(beta)), 5e-5)

					y, ok = guarded(t, y0)
					gw, _ = guarded(t, wt)
					GemmNN(y, n+pad, gx, k+pad, gw, n+pad, m, n, k, -1, beta, nil)
					ok()
					closeTo(t, "NN", y, product(y0, n+pad, m, n, k, row(x, k+pad), col(wt, n+pad), -1, float64(beta)), 5e-5)

					y, ok = guarded(t, y0)
					gx, _ = guarded(t, xt)
					GemmTN(y, n+pad, gx, m+pad, gw, n+pad, m, n, k, 1, beta, nil)
					ok()
					closeTo(t, "TN", y, product(y0, n+pad, m, n, k, col(xt, m+pad), col(wt, n+pad), 1, float64(beta)), 5e-5)
				})
			}
		}
	}
}

func TestGemm64(t *testing.T) {
	rng := newRand(2)
	for _, s := range gemmSizes {
		m, n, k := s[0], s[1], s[2]
		a, b, y0 := randoms64(rng, m*k), randoms64(rng, n*k), randoms64(rng, m*n)
		at, bt := transposed(a, m, k), transposed(b, n, k)
		want := append([]float64(nil), y0...)
		for i := range m {
			for j := range n {
				s := 0.0
				for l := range k {
					s += a[i*k+l] * b[j*k+l]
				}
				want[i*n+j] = 0.5*want[i*n+j] - s
			}
		}
		for name, f := range map[string]func(y []float64){
			"NT": func(y []float64) { GemmNT64(y, n, a, k, b, k, m, n, k, -1, 0.5, nil) },
			"NN": func(y []float64) { GemmNN64(y, n, a, k, bt, n, m, n, k, -1, 0.5, nil) },
			"TN": func(y []float64) { GemmTN64(y, n, at, m, bt, n, m, n, k, -1, 0.5, nil) },
		} {
			y := append([]float64(nil), y0...)
			f(y)
			closeTo(t, fmt.Sprint(name, s), y, want, 1e-13)
		}
	}
}

func transposed(a []float64, m, n int) []float64 {
	t := make([]float64, m*n)
	for i := range m {
		for j := range n {
			t[j*m+i] = a[i*n+j]
		}
	}
	return t
}

// A row's bits must not depend on its neighbours, on the width of the call, or on the number of threads.
func TestGemmDeterminism(t *testing.T) {
	rng := newRand(3)
	const m, n, k = 95, 700, 600
	x, w := randoms(rng, m*k), randoms(rng, n*k)
	want := make([]float32, m*n)
	GemmNT(want, n, x, k, F32Weights(w, k), m, n, k, 0, nil)
	for threads := 1; threads <= 3; threads++ {
		y := make([]float32, m*n)
		GemmNT(y, n, x, k, F32Weights(w, k), m, n, k, 0, workers(threads))
		same(t, fmt.Sprint("threads ", threads), y, want)
	}
	for _, rows := range []int{1, 3, 16, 50} {
		y := make([]float32, m*n)
		for i := 0; i < m; i += rows {
			GemmNT(y[i*n:], n, x[i*k:], k, F32Weights(w, k), min(rows, m-i), n, k, 0, nil)
		}
		same(t, fmt.Sprint("rows ", rows), y, want)
	}
	y := make([]float32, m*n)
	for j := 0; j < n; j += 37 {
		GemmNT(y[j:], n, x, k, F32Weights(w[j*k:], k), m, min(37, n-j), k, 0, nil)
	}
	same(t, "columns", y, want)
}

// 16-bit weights must give what their widened values give.
func TestGemmHalfWeights(t *testing.T) {
	rng := newRand(4)
	for _, s := range gemmSizes {
		m, n, k := s[0], s[1], s[2]
		x, w := randoms(rng, m*k), randoms(rng, n*k)
		h, wide := make([]uint16, n*k), make([]float32, n*k)
		for _, bf16 := range []bool{true, false} {
			if bf16 {
				F32ToBF16(h, w)
				BF16ToF32(wide, h)
			} else {
				F32ToF16(h, w)
				F16ToF32(wide, h)
			}
			got, want := make([]float32, m*n), make([]float32, m*n)
			GemmNT(got, n, x, k, Weights{U16: h, BF16: bf16, LD: k}, m, n, k, 0, nil)
			GemmNT(want, n, x, k, F32Weights(wide, k), m, n, k, 0, nil)
			same(t, fmt.Sprint(s, bf16), got, want)
		}
	}
}

func TestSyrkTN(t *testing.T) {
	rng := newRand(5)
	for _, s := range [][2]int{{0, 3}, {1, 1}, {9, 33}, {1100, 20}, {40, 300}} {
		m, k := s[0], s[1]
		x, scale := randoms(rng, m*(k+1)), randoms(rng, m)
		got, want := make([]float64, k*k), make([]float64, k*k)
		for i := range got {
			got[i] = 1
			want[i] = 1
		}
		for i := range m {
			for p := range k {
				for q := range k {
					want[p*k+q] += float64(scale[i]) * float64(x[i*(k+1)+p]) * float64(x[i*(k+1)+q])
				}
			}
		}
		SyrkTN(got, x, k+1, scale, m, k, workers(2))
		closeTo(t, fmt.Sprint(s), got, want, 1e-4)
		for p := range k {
			for q := range k {
				if got[p*k+q] != got[q*k+p] {
					t.Fatalf("%v: not symmetric at %d,%d", s, p, q)
				}
			}
		}
	}
}

func TestShortSlicesPanic(t *testing.T) {
	x := make([]float32, 6)
	for name, f := range map[string]func(){
		"y":        func() { GemmNT(x[:5], 3, x, 3, F32Weights(x, 3), 2, 3, 3, 0, nil) },
		"x":        func() { GemmNT(make([]float32, 9), 3, x, 3, F32Weights(make([]float32, 9), 3), 3, 3, 3, 0, nil) },
		"w":        func() { GemmNT(make([]float32, 9), 3, x, 3, F32Weights(x, 3), 2, 3, 3, 0, nil) },
		"ld":       func() { GemmNT(x, 2, x, 3, F32Weights(make([]float32, 9), 3), 2, 3, 3, 0, nil) },
		"negative": func() { GemmNT(x, 2, x, 3, F32Weights(x, 3), -1, 3, 3, 0, nil) },
		"dot":      func() { Dot(x, x[:5]) },
		"exp":      func() { Exp32(x[:5], x) },
		"hadamard": func() { Hadamard32(x) },
		"norm":     func() { RMSNorm(x, x, nil, 2, 4, 4, 0, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// More rows than a pass takes, and more values than are packed at once, must give what smaller calls give.
func TestGemmPasses(t *testing.T) {
	rng := newRand(6)
	for _, s := range [][3]int{{chunkM + 40, 3, 300}, {2000, 5, sharedA/2000 + 700}} {
		m, n, k := s[0], s[1], s[2]
		x, w, start := randoms(rng, m*k), randoms(rng, n*k), randoms(rng, m*n)
		want, got := append([]float32(nil), start...), append([]float32(nil), start...)
		for i := 0; i < m; i += 500 {
			GemmNT(want[i*n:], n, x[i*k:], k, F32Weights(w, k), min(500, m-i), n, k, -0.5, nil)
		}
		GemmNT(got, n, x, k, F32Weights(w, k), m, n, k, -0.5, workers(2))
		same(t, fmt.Sprint(s), got, want)
	}
}
