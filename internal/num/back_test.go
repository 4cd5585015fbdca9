package num

import (
	"fmt"
	"math"
	"testing"
)

// slopes returns Σ_i dy[i] * ∂f_i/∂x_j for every j by central differences in float64.
func slopes(f func(x []float64) []float64, x, dy []float32) []float64 {
	const h = 1e-5
	at := make([]float64, len(x))
	for i, v := range x {
		at[i] = float64(v)
	}
	out := make([]float64, len(x))
	for j := range x {
		old := at[j]
		at[j] = old + h
		up := f(at)
		at[j] = old - h
		down := f(at)
		at[j] = old
		for i, d := range dy {
			out[j] += float64(d) * (up[i] - down[i]) / (2 * h)
		}
	}
	return out
}

func TestActivationBackIsTheSlope(t *testing.T) {
	for _, n := range []int{1, 7, 257, 5000} {
		rng := newRand(uint64(n))
		x, up, dy := randoms(rng, n), randoms(rng, n), randoms(rng, n)
		for i := range x {
			x[i] *= 4
		}
		one := func(f func(x float64) float64) []float64 {
			out := make([]float64, n)
			for i, v := range x {
				const h = 1e-5
				out[i] = float64(dy[i]) * (f(float64(v)+h) - f(float64(v)-h)) / (2 * h)
			}
			return out
		}
		silu := func(x float64) float64 { return x / (1 + math.Exp(-x)) }
		dgate, dup := make([]float32, n), make([]float32, n)
		SiLUMulBack(dgate, dup, dy, x, up, n, nil)
		wantGate, wantUp := one(silu), make([]float64, n)
		for i := range x {
			wantGate[i] *= float64(up[i])
			wantUp[i] = float64(dy[i]) * silu(float64(x[i]))
		}
		closeTo(t, "SiLU, gate", dgate, wantGate, 2e-6)
		closeTo(t, "SiLU, up", dup, wantUp, 2e-6)
		gate, u := append([]float32(nil), x...), append([]float32(nil), up...)
		SiLUMulBack(gate, u, dy, gate, u, n, workers(3))
		same(t, "SiLU in place, gate", gate, dgate)
		same(t, "SiLU in place, up", u, dup)

		dx := make([]float32, n)
		GELUBack(dx, dy, x, n, false, nil)
		closeTo(t, "GELU, erf", dx, one(func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }), 1e-6)
		GELUBack(dx, dy, x, n, true, workers(2))
		closeTo(t, "GELU, tanh", dx, one(func(x float64) float64 {
			return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		}), 1e-6)
	}
	far := []float32{-1e20, -200, -90, 0, 90, 200, 1e20}
	ones, a, b := []float32{1, 1, 1, 1, 1, 1, 1}, make([]float32, 7), make([]float32, 7)
	for _, tanh := range []bool{false, true} {
		GELUBack(a, ones, far, 7, tanh, nil)
		closeTo(t, "GELU far out", a, []float64{0, 0, 0, 0.5, 1, 1, 1}, 1e-6)
	}
	SiLUMulBack(a, b, ones, far[1:6], ones, 5, nil)
	closeTo(t, "SiLU far out", a[:5], []float64{0, 0, 0.5, 1, 1}, 1e-6)
}

func TestGemmBack(t *testing.T) {
	rng := newRand(8)
	for _, s := range gemmSizes {
		m, n, k := s[0], s[1], s[2]
		dy, w, dx0 := randoms(rng, m*n), randoms(rng, n*(k+3)), randoms(rng, m*k)
		h, wide := make([]uint16, len(w)), make([]float32, len(w))
		for kind := range 3 {
			weights := F32Weights(w, k+3)
			copy(wide, w)
			switch kind {
			case 1:
				F32ToBF16(h, w)
				BF16ToF32(wide, h)
				weights = Weights{U16: h, BF16: true, LD: k + 3}
			case 2:
				F32ToF16(h, w)
				F16ToF32(wide, h)
				weights = Weights{U16: h, LD: k + 3}
			}
			for _, beta := range []float32{0, 1} {
				got, ok := guarded(t, dx0)
				GemmBack(got, k, dy, n, weights, m, n, k, beta, workers(2))
				ok()
				want := append([]float32(nil), dx0...)
				GemmNN(want, k, dy, n, wide, k+3, m, k, n, 1, beta, nil)
				same(t, fmt.Sprint("GemmBack ", s, kind, beta), got, want)
			}
		}
	}
}
