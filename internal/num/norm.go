package num

import (
	"fmt"
	"math"
)

// RMSNorm normalises rows of width d by their root mean square (Zhang and Sennrich, arXiv:1910.07467):
//
//	y[i,:] = x[i,:] / sqrt(Σ_j x[i,j]²/over + eps) * w
//
// over is the number of channels that the mean is taken over: d, or fewer where a mask makes the other ones zero. y may be
// x; w nil means ones.
func RMSNorm(y, x, w []float32, rows, d int, over, eps float32, par Par) {
	checkNorm("RMSNorm", y, x, rows, d, over)
	if w != nil {
		checkLen("RMSNorm", "w", len(w), d)
	}
	byRows(par, rows, d, func(i int) {
		row, out := x[i*d:][:d], y[i*d:][:d]
		inv := float32(1 / math.Sqrt(float64(Dot(row, row))/float64(over)+float64(eps)))
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
//	y[i,:] = (x[i,:]-mean) / sqrt(var+eps) * w + b,  mean = Σ_j x[i,j]/over,  var = Σ_j x[i,j]²/over - mean²
//
// over is the number of channels that both means are taken over: d, or fewer where a mask makes the other ones zero. These
// come out as (0-mean)/sqrt(var+eps)*w + b: the mask has to be on w and b too. The variance is that of
// [variance], a negative one (over below the number of channels that are not zero) counts as zero. y may be x; w nil means
// ones and b nil zeros.
func LayerNorm(y, x, w, b []float32, rows, d int, over, eps float32, par Par) {
	checkNorm("LayerNorm", y, x, rows, d, over)
	if w != nil {
		checkLen("LayerNorm", "w", len(w), d)
	}
	if b != nil {
		checkLen("LayerNorm", "b", len(b), d)
	}
	byRows(par, rows, d, func(i int) {
		row, out := x[i*d:][:d], y[i*d:][:d]
		mean := Sum(row) / over
		for j, v := range row {
			out[j] = v - mean
		}
		var sq float64
		if over == float32(d) {
			sq = float64(Dot(out, out))
		} else {
			sq = sumSquares(out) // of which a part is taken away again
		}
		inv := float32(1 / math.Sqrt(variance(sq, float64(mean), d, over)+float64(eps)))
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

// variance returns the variance of a row of d channels over the number over of those that no mask makes zero, from the
// sum sq of (x-mean)² over all of them: each of the d-over others is in it with mean², so that
//
//	var = (sq - (d-over)*mean²) / over
//
// which is Σx²/over - mean² without the cancellation where the mean is large.
func variance(sq, mean float64, d int, over float32) float64 {
	if over == float32(d) {
		return sq / float64(d)
	}
	return max(0, sq-float64((float64(d)-float64(over))*mean*mean)) / float64(over)
}

func checkNorm(op string, y, x []float32, rows, d int, over float32) {
	checkDims(op, rows, d)
	checkLen(op, "x", len(x), rows*d)
	checkLen(op, "y", len(y), rows*d)
	if rows*d > 0 && !(over > 0) {
		panic(fmt.Sprintf("num: %s: a mean over %v channels", op, over))
	}
}
