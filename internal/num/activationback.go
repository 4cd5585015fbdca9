package num

import "math"

// SiLUMulBack computes the gradients by both inputs of SiLUMul over n values, from these and the gradient dy by the output:
// with s = 1/(1+e^-gate)
//
//	dgate = dy*up * s*(1+gate*(1-s)),  dup = dy*gate*s
//
// dgate and dup may each be any of the inputs, but not the same.
func SiLUMulBack(dgate, dup, dy, gate, up []float32, n int, par Par) {
	const op = "SiLUMulBack"
	checkDims(op, n)
	checkLen(op, "dgate", len(dgate), n)
	checkLen(op, "dup", len(dup), n)
	checkLen(op, "dy", len(dy), n)
	checkLen(op, "gate", len(gate), n)
	checkLen(op, "up", len(up), n)
	byChunk(par, n, func(lo, hi int) { siluMulBack(dgate[lo:hi], dup[lo:hi], dy[lo:hi], gate[lo:hi], up[lo:hi]) })
}

func siluMulBackGeneric(dgate, dup, dy, gate, up []float32) {
	for i, g := range gate {
		u, d := up[i], dy[i]
		s := 1 / (1 + float32(math.Exp(-float64(g))))
		dup[i] = d * float32(g*s)
		dgate[i] = d * u * s * (1 + float32(g*(1-s)))
	}
}

// GELUBack computes the gradient by the input of GELU over n values, from the input x and the gradient dy by the output:
// dy*(Φ(x) + x*φ(x)), or where tanh is set, with s = 1/(1+e^-2u),
//
//	dy*(s + 2*x*s*(1-s)*u'),  u' = sqrt(2/π)*(1 + 3*0.044715*x²)
//
// in float64. dx may be dy or x.
func GELUBack(dx, dy, x []float32, n int, tanh bool, par Par) {
	checkDims("GELUBack", n)
	checkLen("GELUBack", "dx", len(dx), n)
	checkLen("GELUBack", "dy", len(dy), n)
	checkLen("GELUBack", "x", len(x), n)
	slope := geluErfSlope
	if tanh {
		slope = geluTanhSlope
	}
	byChunk(par, n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			dx[i] = float32(float64(dy[i]) * slope(float64(x[i])))
		}
	})
}

func geluErfSlope(x float64) float64 {
	const c = 0.39894228040143267794 // 1/sqrt(2π)
	return float64(0.5*(1+math.Erf(x/math.Sqrt2))) + float64(x*c*math.Exp(-x*x/2))
}

func geluTanhSlope(x float64) float64 {
	const c = 0.79788456080286535588 // sqrt(2/π)
	s := 1 / (1 + math.Exp(-2*c*(x+float64(0.044715*x*x*x))))
	return s + float64(2*c*x*s*(1-s)*(1+float64(3*0.044715*x*x)))
}
