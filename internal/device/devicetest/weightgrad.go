package devicetest

import (
	"fmt"
	"math"
	"testing"

	"modelpress/internal/device"
)

// matMulGrad: w[N,Kd] = y[M,N]ᵀ · x[M,Kd] + beta*w.
func (s *suite) matMulGrad(t *testing.T) {
	for _, z := range [][3]int{{1, 1, 1}, {3, 5, 7}, {1, 17, 64}, {33, 31, 1}, {0, 8, 9}, {47, 65, 129}, {64, 64, 64}, {700, 2, 300}} {
		for _, beta := range []float32{0, 1, 0.5} {
			m, n, k := z[0], z[1], z[2]
			y, ys := s.buf(t, device.F32, values(m*n, 70))
			x, xs := s.buf(t, device.F32, values(m*k, 71))
			start := values(n*k, 72)
			if beta == 0 {
				for i := range start {
					start[i] = float32(math.NaN()) // not to be read
				}
			}
			w, _ := s.buf(t, device.F32, append(start, guard))
			s.d.MatMulTN(w, y, x, m, n, k, beta)
			want := make([]float64, n*k)
			for i := range n {
				for j := range k {
					for l := range m {
						want[i*k+j] += float64(ys[l*n+i]) * float64(xs[l*k+j])
					}
					if beta != 0 {
						want[i*k+j] += float64(beta) * float64(start[i*k+j])
					}
				}
			}
			near(t, fmt.Sprint(z, " beta ", beta), s.result(t, w, n*k), want, 2e-6*math.Sqrt(float64(m+1))+1e-6)
		}
	}
}

// columns: columns scaled, and their dot products added to what is there.
func (s *suite) columns(t *testing.T) {
	for _, c := range [][2]int{{0, 3}, {1, 1}, {5, 7}, {3, 64}, {300, 257}} {
		rows, n := c[0], c[1]
		x, xs := s.buf(t, device.F32, append(values(rows*n, 73), guard))
		b, bs := s.buf(t, device.F32, values(rows*n, 74))
		z := values(n, 75)
		dots, sums, scaled := make([]float64, n), make([]float64, n), make([]float32, rows*n)
		for j, v := range z {
			dots[j], sums[j] = float64(v), -float64(v)
		}
		gotDots, gotSums := append([]float64(nil), dots...), append([]float64(nil), sums...)
		for i, v := range xs[:rows*n] {
			dots[i%n] += float64(v) * float64(bs[i])
			sums[i%n] += float64(v)
			scaled[i] = v * z[i%n]
		}
		s.d.ColumnDots(gotDots, x, b, rows, n)
		s.d.ColumnDots(gotSums, x, nil, rows, n)
		for j := range n {
			if math.Abs(gotDots[j]-dots[j]) > 1e-11 || math.Abs(gotSums[j]-sums[j]) > 1e-11 {
				t.Fatalf("%v: column %d: %v and %v, want %v and %v", c, j, gotDots[j], gotSums[j], dots[j], sums[j])
			}
		}
		y := s.out(t, rows*n)
		s.d.ScaleColumns(y, x, z, rows, n)
		same(t, s.result(t, y, rows*n), scaled)
		s.d.ScaleColumns(x, x, z, rows, n)
		same(t, s.result(t, x, rows*n), scaled)
	}
}

// trained runs the operations that training adds on a gradient dy and an input x [rows, d] and returns what they give.
func (s *suite) trained(t *testing.T, dy, x device.Buf, rows, d int) (all []float32) {
	t.Helper()
	w, gain, bias, y := s.out(t, d*d), s.out(t, d), s.out(t, d), s.out(t, rows*d)
	over := float32(d) - 0.5
	s.d.MatMulTN(w, dy, x, rows, d, d, 1)
	s.d.RMSNormGrad(gain, dy, x, rows, d, over, 1e-5)
	s.d.LayerNormGrad(gain, bias, dy, x, rows, d, over, 1e-5)
	s.d.ScaleColumns(y, x, values(d, 28), rows, d)
	dots := make([]float64, d)
	s.d.ColumnDots(dots, dy, y, rows, d)
	for _, v := range dots {
		all = append(all, float32(v))
	}
	for _, b := range []device.Buf{w, gain, bias, y} {
		all = append(all, s.read(b)...)
	}
	return all
}
