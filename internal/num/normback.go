package num

import "math"

// RMSNormBack computes the gradient by the input of RMSNorm, from the input x and the gradient dy by the output:
//
//	r = 1/sqrt(Σ_j x[i,j]²/d + eps),  dx[i,:] = r*w*dy[i,:] - x[i,:] * r³/d * Σ_j w[j]*dy[i,j]*x[i,j]
//
// dx may be dy; w nil means ones. Rows are summed in float64, ascending.
func RMSNormBack(dx, dy, x, w []float32, rows, d int, eps float32, par Par) {
	checkNormBack("RMSNormBack", dx, dy, x, w, rows, d)
	byRows(par, rows, d, func(i int) {
		in, g, out := x[i*d:][:d], dy[i*d:][:d], dx[i*d:][:d]
		var sq, dot float64
		for j, v := range in {
			sq += float64(float64(v) * float64(v))
			dot += float64(gain(w, g, j) * float64(v))
		}
		r := 1 / math.Sqrt(sq/float64(d)+float64(eps))
		along := r * r * r / float64(d) * dot
		for j, v := range in {
			out[j] = float32(float64(r*gain(w, g, j)) - float64(float64(v)*along))
		}
	})
}

// LayerNormBack computes the gradient by the input of LayerNorm, from the input x and the gradient dy by the output:
//
//	r = 1/sqrt(var+eps),  n = (x[i,:]-mean)*r,  g = w*dy[i,:],  dx[i,:] = r*(g - mean(g) - n*mean(g*n))
//
// dx may be dy; w nil means ones. Rows are summed in float64, ascending.
func LayerNormBack(dx, dy, x, w []float32, rows, d int, eps float32, par Par) {
	checkNormBack("LayerNormBack", dx, dy, x, w, rows, d)
	byRows(par, rows, d, func(i int) {
		in, g, out := x[i*d:][:d], dy[i*d:][:d], dx[i*d:][:d]
		n := float64(d)
		var mean, sq, sum, dot float64
		for _, v := range in {
			mean += float64(v)
		}
		mean /= n
		for j, v := range in {
			c, s := float64(v)-mean, gain(w, g, j)
			sq += float64(c * c)
			sum += s
			dot += float64(s * c)
		}
		r := 1 / math.Sqrt(sq/n+float64(eps))
		for j, v := range in {
			out[j] = float32(r * (gain(w, g, j) - sum/n - float64((float64(v)-mean)*r*r*dot/n)))
		}
	})
}

// gain is w[j]*dy[j], where w nil means ones.
func gain(w, dy []float32, j int) float64 {
	if w == nil {
		return float64(dy[j])
	}
	return float64(w[j]) * float64(dy[j])
}

func checkNormBack(op string, dx, dy, x, w []float32, rows, d int) {
	checkNorm(op, dx, x, rows, d)
	checkLen(op, "dy", len(dy), rows*d)
	if w != nil {
		checkLen(op, "w", len(w), d)
	}
}
