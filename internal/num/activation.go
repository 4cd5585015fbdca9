package num

import "math"

// chunk is how many values an element-wise kernel handles per task and per pass through its scratch.
const chunk = 1 << 12

// SiLUMul computes y = silu(gate)*up over n values, with silu(g) = g/(1+e^-g), the gate of SwiGLU (Shazeer,
// arXiv:2002.05202). y may be gate or up.
func SiLUMul(y, gate, up []float32, n int, par Par) {
	checkDims("SiLUMul", n)
	checkLen("SiLUMul", "y", len(y), n)
	checkLen("SiLUMul", "gate", len(gate), n)
	checkLen("SiLUMul", "up", len(up), n)
	byChunk(par, n, func(lo, hi int) { siluMul(y[lo:hi], gate[lo:hi], up[lo:hi]) })
}

func siluMulGeneric(y, gate, up []float32) {
	for i, g := range gate {
		y[i] = g / (1 + float32(math.Exp(-float64(g)))) * up[i]
	}
}

// GELU computes y = gelu(x) over n values (Hendrycks and Gimpel, arXiv:1606.08415): x*Φ(x) with Φ the normal
// distribution function by erf, or where tanh is set its approximation
//
//	x/2 * (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/π)*(x + 0.044715*x³)
//
// y may be x.
func GELU(y, x []float32, n int, tanh bool, par Par) {
	checkDims("GELU", n)
	checkLen("GELU", "y", len(y), n)
	checkLen("GELU", "x", len(x), n)
	kernel := geluErf
	if tanh {
		kernel = geluTanh
	}
	byChunk(par, n, func(lo, hi int) { kernel(y[lo:hi], x[lo:hi]) })
}

func geluErf(y, x []float32) {
	for i, v := range x {
		y[i] = float32(0.5 * float64(v) * (1 + math.Erf(float64(v)/math.Sqrt2)))
	}
}

func geluTanh(y, x []float32) {
	const c = 2 * 0.79788456080286535588 // 2*sqrt(2/π)
	var e [256]float32
	for len(x) > 0 {
		n := min(len(e), len(x))
		for i, v := range x[:n] {
			e[i] = -c * (v + float32(0.044715*v*v*v))
		}
		exp32(e[:n], e[:n])
		for i, v := range x[:n] {
			y[i] = v / (1 + e[i])
		}
		x, y = x[n:], y[n:]
	}
}

// byChunk runs body over [0, n) in pieces of chunk values.
func byChunk(par Par, n int, body func(lo, hi int)) {
	each(par, ceilDiv(n, chunk), func(i int) { body(i*chunk, min(n, (i+1)*chunk)) })
}
