package devicetest

import (
	"fmt"
	"math"
	"testing"

	"modelpress/internal/device"
)

// matMulBack: y[M,Kd] = x[M,N] · w[N,Kd] + beta*y, also after a product by the same weights, which may have packed them.
func (s *suite) matMulBack(t *testing.T) {
	for _, kind := range kinds {
		for _, z := range [][3]int{{1, 1, 1}, {3, 5, 7}, {1, 17, 64}, {33, 31, 1}, {8, 0, 9}, {47, 65, 129}, {64, 64, 64}, {2, 300, 700}} {
			for _, beta := range []float32{0, 1, 0.5} {
				m, n, k := z[0], z[1], z[2]
				x, xs := s.buf(t, device.F32, values(m*n, 50))
				w, ws := s.buf(t, kind, values(n*k, 51))
				start := values(m*k, 52)
				if beta == 0 {
					for i := range start {
						start[i] = float32(math.NaN()) // not to be read
					}
				}
				y, _ := s.buf(t, device.F32, append(start, guard))
				if n > 0 && m > 1 {
					in, out := s.out(t, m*k), s.out(t, m*n)
					s.d.MatMulNT(out, in, w, m, n, k, 0)
				}
				s.d.MatMulNN(y, x, w, m, n, k, beta)
				same(t, s.read(w), ws)
				want := make([]float64, m*k)
				for i := range m {
					for j := range k {
						for l := range n {
							want[i*k+j] += float64(xs[i*n+l]) * float64(ws[l*k+j])
						}
						if beta != 0 {
							want[i*k+j] += float64(beta) * float64(start[i*k+j])
						}
					}
				}
				near(t, fmt.Sprintf("kind %d %v beta %v", kind, z, beta), s.result(t, y, m*k), want, 2e-6*math.Sqrt(float64(n+1))+1e-6)
			}
		}
	}
}

// activationBack: the gradients of both activations, at ordinary and extreme values, also in place.
func (s *suite) activationBack(t *testing.T) {
	for _, n := range []int{1, 3, 31, 33, 20000} {
		in := values(n, 56)
		for i := range in {
			in[i] *= 4
		}
		copy(in, []float32{-80, 0, 200})
		g, gs := s.buf(t, device.F32, append(in, guard))
		u, us := s.buf(t, device.F32, append(values(n, 57), guard))
		dy, ds := s.buf(t, device.F32, values(n, 58))
		gate, up, tanh, erf := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range n {
			v, d := float64(gs[i]), float64(ds[i])
			sig := 1 / (1 + math.Exp(-v))
			gate[i], up[i] = d*float64(us[i])*(sig+v*sig*(1-sig)), d*v*sig
			const c = 0.7978845608028654
			th := math.Tanh(c * (v + 0.044715*v*v*v))
			tanh[i] = d * (0.5*(1+th) + 0.5*v*(1-th*th)*c*(1+3*0.044715*v*v))
			erf[i] = d * (0.5*math.Erfc(-v/math.Sqrt2) + v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi))
		}
		dx, dz := s.out(t, n), s.out(t, n)
		s.d.GELUBack(dx, dy, g, n, true)
		near(t, "GELUBack tanh", s.result(t, dx, n), tanh, 2e-6)
		s.d.GELUBack(dx, dy, g, n, false)
		near(t, "GELUBack erf", s.result(t, dx, n), erf, 2e-6)
		s.d.SiLUMulBack(dx, dz, dy, g, u, n)
		near(t, "SiLUMulBack, gate", s.result(t, dx, n), gate, 5e-6)
		near(t, "SiLUMulBack, up", s.result(t, dz, n), up, 5e-6)
		s.d.SiLUMulBack(g, u, dy, g, u, n)
		same(t, s.result(t, g, n), s.read(dx)[:n])
		same(t, s.result(t, u, n), s.read(dz)[:n])
	}
}

// mix: heads mixed by gates, and the slopes by the gates.
func (s *suite) mix(t *testing.T) {
	for _, c := range attentionCases() {
		shape := device.AttnShape{T: c.t, H: c.h, G: c.g, K: c.k}
		n := c.t * c.h * c.k
		a, as := s.buf(t, device.F32, append(values(n, 60), guard))
		b, bs := s.buf(t, device.F32, values(n, 61))
		dy, ds := s.buf(t, device.F32, values(n, 62))
		alpha := make([]float32, c.g)
		for g := range alpha {
			alpha[g] = float32(g) / float32(max(1, c.g-1))
		}
		mixed, scaled, slopes := make([]float64, n), make([]float64, n), make([]float64, c.g)
		for i := range n {
			g := i / c.k % c.h / (c.h / c.g)
			w := float64(alpha[g])
			scaled[i] = w * float64(as[i])
			mixed[i] = scaled[i] + (1-w)*float64(bs[i])
			slopes[g] += float64(ds[i]) * (float64(as[i]) - float64(bs[i]))
		}
		got := make([]float64, c.g)
		s.d.MixSlopes(got, dy, a, b, shape)
		nearBoth(t, "slopes", got, slopes, 1e-9)
		y := s.out(t, n)
		s.d.MixHeads(y, a, b, alpha, shape)
		near(t, "mixed", s.result(t, y, n), mixed, 1e-6)
		s.d.MixHeads(y, a, nil, alpha, shape)
		near(t, "scaled", s.result(t, y, n), scaled, 1e-6)
		s.d.MixHeads(a, a, b, alpha, shape)
		near(t, "mixed in place", s.result(t, a, n), mixed, 1e-6)
	}
}
