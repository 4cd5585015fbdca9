package cpu

import (
	"math"

	"modelpress/internal/device"
)

// SiLUMul: y = silu(gate)*up, silu(a) = a/(1+exp(-a)). y may be gate or up.
func (d *Device) SiLUMul(y, gate, up device.Buf, n int) {
	out, g, u := f32("SiLUMul", y, n), f32("SiLUMul", gate, n), f32("SiLUMul", up, n)
	d.rows(n, 8, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			a := float64(g[i])
			out[i] = float32(a/(1+math.Exp(-a))) * u[i]
		}
	})
}

// GELU: y = gelu(x), by the tanh form (Hendrycks and Gimpel, arXiv:1606.08415) where tanh is set, else by erf.
func (d *Device) GELU(y, x device.Buf, n int, tanh bool) {
	out, in := f32("GELU", y, n), f32("GELU", x, n)
	f := geluErf
	if tanh {
		f = geluTanh
	}
	d.rows(n, 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			out[i] = f(in[i])
		}
	})
}

func geluErf(x float32) float32 {
	v := float64(x)
	return float32(0.5 * v * (1 + math.Erf(v/math.Sqrt2)))
}

func geluTanh(x float32) float32 {
	v := float64(x)
	inner := v + float64(0.044715*v*v*v)
	return float32(0.5 * v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*inner)))
}
