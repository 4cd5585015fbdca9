package num

import "math"

// RMSNormBack computes the gradient by the input of RMSNorm, from the input x and the gradient dy by the output:
//
//	r = 1/sqrt(Σ_j x[i,j]²/over + eps),  dx[i,:] = r*w*dy[i,:] - x[i,:] * r³/over * Σ_j w[j]*dy[i,j]*x[i,j]
//
// dx may be dy; w nil means ones. Rows are summed in float64, ascending.
func RMSNormBack(dx, dy, x, w []float32, rows, d int, over, eps float32, par Par) {
	checkNormBack("RMSNormBack", dx, dy, x, w, rows, d, over)
	byRows(par, rows, d, func(i int) {
		in, g, out := x[i*d:][:d], dy[i*d:][:d], dx[i*d:][:d]
		var dot float64
		for j, v := range in {
			dot += float64(gain(w, g, j) * float64(v))
		}
		r := inverseRMS(in, over, eps)
		along := r * r * r / float64(over) * dot
		for j, v := range in {
			out[j] = float32(float64(r*gain(w, g, j)) - float64(float64(v)*along))
		}
	})
}

// LayerNormBack computes the gradient by the input of LayerNorm, from the input x and the gradient dy by the output: with
// means over the number over of channels
//
//	r = 1/sqrt(var+eps),  n = (x[i,:]-mean)*r,  g = w*dy[i,:],  dx[i,:] = r*(g - Σ_j g[j]/over - n*Σ_j g[j]*n[j]/over)
//
// dx may be dy; w nil means ones. Rows are summed in float64, ascending.
func LayerNormBack(dx, dy, x, w []float32, rows, d int, over, eps float32, par Par) {
	checkNormBack("LayerNormBack", dx, dy, x, w, rows, d, over)
	byRows(par, rows, d, func(i int) {
		in, g, out := x[i*d:][:d], dy[i*d:][:d], dx[i*d:][:d]
		n := float64(over)
		mean, r := moments(in, over, eps)
		var sum, dot float64
		for j, v := range in {
			s := gain(w, g, j)
			sum += s
			dot += float64(s * (float64(v) - mean))
		}
		for j, v := range in {
			out[j] = float32(r * (gain(w, g, j) - sum/n - float64((float64(v)-mean)*r*r*dot/n)))
		}
	})
}

// inverseRMS returns 1/sqrt(Σx²/over + eps), summed in ascending order.
func inverseRMS(x []float32, over, eps float32) float64 {
	var sq float64
	for _, v := range x {
		sq += float64(float64(v) * float64(v))
	}
	return 1 / math.Sqrt(sq/float64(over)+float64(eps))
}

// moments returns the mean of a row and 1/sqrt(var+eps), both over the number over of channels, summed in ascending order.
func moments(x []float32, over, eps float32) (mean, r float64) {
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(over)
	var sq float64
	for _, v := range x {
		c := float64(v) - mean
		sq += float64(c * c)
	}
	return mean, 1 / math.Sqrt(variance(sq, mean, len(x), over)+float64(eps))
}

// gain is w[j]*dy[j], where w nil means ones.
func gain(w, dy []float32, j int) float64 {
	if w == nil {
		return float64(dy[j])
	}
	return float64(w[j]) * float64(dy[j])
}

func checkNormBack(op string, dx, dy, x, w []float32, rows, d int, over float32) {
	checkNorm(op, dx, x, rows, d, over)
	checkLen(op, "dy", len(dy), rows*d)
	if w != nil {
		checkLen(op, "w", len(w), d)
	}
}
