package testmodel

import "math"

// referenceLinear is y = x·Wᵀ + b.
type referenceLinear struct {
	in, out int
	w       []float64 // [Out, In]
	b       []float64 // [Out], nil where there is no bias
}

// rows returns the part of a projection that makes outputs lo to hi.
func (l referenceLinear) rows(lo, hi int) referenceLinear {
	if l.w == nil {
		return l
	}
	return referenceLinear{in: l.in, out: hi - lo, w: l.w[lo*l.in : hi*l.in], b: l.b[lo:hi]}
}

// apply returns y [T, Out] of x [T, In]. Every sum runs in the order of the inputs; four rows go at a time, because one
// sum alone waits for each of its additions.
func (l referenceLinear) apply(x []float64, t int) []float64 {
	y := make([]float64, t*l.out)
	for j := range l.out {
		w, bias := l.w[j*l.in:(j+1)*l.in], 0.0
		if l.b != nil {
			bias = l.b[j]
		}
		i := 0
		for ; i+4 <= t; i += 4 {
			row := func(n int) []float64 { return x[(i+n)*l.in:][:len(w)] }
			x0, x1, x2, x3 := row(0), row(1), row(2), row(3)
			var s0, s1, s2, s3 float64
			for c, v := range w {
				s0 += v * x0[c]
				s1 += v * x1[c]
				s2 += v * x2[c]
				s3 += v * x3[c]
			}
			y[i*l.out+j], y[(i+1)*l.out+j] = s0+bias, s1+bias
			y[(i+2)*l.out+j], y[(i+3)*l.out+j] = s2+bias, s3+bias
		}
		for ; i < t; i++ {
			y[i*l.out+j] = dot(w, x[i*l.in:(i+1)*l.in]) + bias
		}
	}
	return y
}

// referenceNorm is RMSNorm (arXiv:1910.07467), or LayerNorm (arXiv:1607.06450) where it has a bias.
type referenceNorm struct {
	w, b []float64
}

// apply normalizes each piece of x as long as the gain.
func (n referenceNorm) apply(x []float64, eps float64) []float64 { return n.over(x, eps, nil) }

// over is apply with mean and variance over some channels, the others 0; all where channels is nil.
func (n referenceNorm) over(x []float64, eps float64, channels []bool) []float64 {
	y, width := make([]float64, len(x)), len(n.w)
	of := make([]int, 0, width)
	for c := range width {
		if channels == nil || channels[c] {
			of = append(of, c)
		}
	}
	for at := 0; at < len(x); at += width {
		row := x[at : at+width]
		mean := 0.0
		if n.b != nil {
			for _, c := range of {
				mean += row[c]
			}
			mean /= float64(len(of))
		}
		variance := 0.0
		for _, c := range of {
			variance += (row[c] - mean) * (row[c] - mean)
		}
		deviation := math.Sqrt(variance/float64(len(of)) + eps)
		for _, c := range of {
			y[at+c] = (row[c] - mean) / deviation * n.w[c]
			if n.b != nil {
				y[at+c] += n.b[c]
			}
		}
	}
	return y
}

// silu is x·sigmoid(x) (arXiv:1702.03118).
func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }

// geluErf and geluTanh are GELU and its usual approximation (arXiv:1606.08415).
func geluErf(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }

func geluTanh(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}
