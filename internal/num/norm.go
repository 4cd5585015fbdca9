package num

import "math"

// RMSNorm normalises rows of width d by their root mean square (Zhang and Sennrich, arXiv:1910.07467):
//
//	y[i,:] = x[i,:] / sqrt(Σ_j x[i,j]²/d + eps) * w
//
// y may be x; w nil means ones.
func RMSNorm(y, x, w []float32, rows, d int, eps float32, par Par) {
	checkNorm("RMSNorm", y, x, rows, d)
	if w != nil {
		checkLen("RMSNorm", "w", len(w), d)
	}
	byRows(par, rows, d, func(i int) {
		row, out := x[i*d:][:d], y[i*d:][:d]
		inv := float32(1 / math.Sqrt(float64(Dot(row, row))/float64(d)+float64(eps)))
		if w == nil {
			for j, v := range row {
				out[j] = v * inv
			}
			return
		}
		w := w[:d]
		for j, v := range row {
			out[j] = float32(v*inv) * w[j]
		}
	})
}

// LayerNorm normalises rows of width d by mean and variance (Ba et al., arXiv:1607.06450):
//
//	y[i,:] = (x[i,:]-mean) / sqrt(var+eps) * w + b
//
// y may be x; w nil means ones and b nil zeros.
func LayerNorm(y, x, w, b []float32, rows, d int, eps float32, par Par) {
	checkNorm("LayerNorm", y, x, rows, d)
	if w != nil {
		checkLen("LayerNorm", "w", len(w), d)
	}
	if b != nil {
		checkLen("LayerNorm", "b", len(b), d)
	}
	byRows(par, rows, d, func(i int) {
		row, out := x[i*d:][:d], y[i*d:][:d]
		mean := Sum(row) / float32(d)
		for j, v := range row {
			out[j] = v - mean
		}
		inv := float32(1 / math.Sqrt(float64(Dot(out, out))/float64(d)+float64(eps)))
		for j := range out {
			v := out[j] * inv
			if w != nil {
				v *= w[j]
			}
			if b != nil {
				v = float32(v) + b[j]
			}
			out[j] = v
		}
	})
}

func checkNorm(op string, y, x []float32, rows, d int) {
	checkDims(op, rows, d)
	checkLen(op, "x", len(x), rows*d)
	checkLen(op, "y", len(y), rows*d)
}
