package ggml

import "math"

// affineFit is a grid scale*code - min for a part of a block.
type affineFit struct {
	scale, min float32
	base, inv  float32 // code = nearest((x-base)*inv), held in its range
}

// affineSteps are the settings of a search for an affine fit.
type affineSteps struct {
	top     float32   // the largest code
	divided []float32 // what the span of the values is divided into, one try each
}

// newAffineSteps has steps top + first + i*step for i <= n, computed as ggml does.
func newAffineSteps(top, first, step float32, n int) *affineSteps {
	s := &affineSteps{top: top, divided: make([]float32, n+1)}
	for i := range s.divided {
		s.divided[i] = float32(first+float32(step*float32(i))) + top
	}
	return s
}

// search looks for the grid scale*code - min, min not negative, with the least Σ w*(x - value)². It starts with the one that spans the
// values; each step divides the span from the best min so far anew, takes the nearest codes, and for them the scale and min of least squares. This is the search
// that llama.cpp calls make_qkx2_quants, in its order of operations.
func (s *affineSteps) search(x, w []float32) affineFit {
	w = w[:len(x)]
	least, largest := x[0], x[0]
	sumW := w[0]
	sumX := float32(sumW * x[0])
	for i := 1; i < len(x); i++ {
		v := x[i]
		if v < least {
			least = v
		}
		if v > largest {
			largest = v
		}
		sumW += w[i]
		sumX += float32(w[i] * v)
	}
	if least > 0 {
		least = 0
	}
	if largest == least {
		return affineFit{min: -least}
	}
	inv := s.top / (largest - least)
	if inv > math.MaxFloat32 { // a span that is nothing as F16
		return affineFit{min: -least}
	}
	best := affineFit{1 / inv, least, least, inv}
	bestErr := s.loss(x, w, best)
	for _, n := range s.divided {
		f := affineFit{base: best.min, inv: n / (largest - best.min)}
		var sumL, sumL2, sumXL float32
		for i, v := range x {
			l := s.code(v, f)
			wl := float32(w[i] * l)
			sumL += wl
			sumL2 += float32(wl * l)
			sumXL += float32(wl * v)
		}
		det := float32(sumW*sumL2) - float32(sumL*sumL)
		if !(det > 0) {
			continue
		}
		f.scale = (float32(sumW*sumXL) - float32(sumX*sumL)) / det
		f.min = (float32(sumL2*sumX) - float32(sumL*sumXL)) / det
		if f.min > 0 {
			f.min, f.scale = 0, sumXL/sumL2
		}
		if e := s.loss(x, w, f); e < bestErr {
			best, bestErr = f, e
		}
	}
	best.min = -best.min
	return best
}

// code returns the code of a value, a whole number.
func (s *affineSteps) code(v float32, f affineFit) float32 {
	return min(max(float32(float32(f.inv*(v-f.base))+roundingMagic)-roundingMagic, 0), s.top)
}

// loss returns Σ w*(x - value)² where values are scale*code + min.
func (s *affineSteps) loss(x, w []float32, f affineFit) float32 {
	var sum float32
	for i, v := range x {
		d := float32(float32(f.scale*s.code(v, f))+f.min) - v
		sum += float32(w[i] * float32(d*d))
	}
	return sum
}

// scaleFit is a grid scale*code for codes of both signs.
type scaleFit struct {
	scale float32
	inv   float32 // code = nearest(x*inv), held in its range
}

// tiny is the magnitude below which a part of a block counts as zeros, ggml's GROUP_MAX_EPS.
const tiny = 1e-15

// searchScale looks for the grid scale*code with codes from -top to top-1 and the least Σ w*(x - value)². Nineteen times it gives the value of
// largest magnitude a code near -top, takes the nearest codes, and for them the scale of least squares. This is the search that llama.cpp calls
// make_qx_quants, in its order of operations.
func searchScale(x, w []float32, top float32) scaleFit {
	w = w[:len(x)]
	var extreme, most float32
	for _, v := range x {
		if a := abs(v); a > most {
			most, extreme = a, v
		}
	}
	if most < tiny {
		return scaleFit{}
	}
	try := func(inv float32) (sumXL, sumL2 float32) {
		for i, v := range x {
			l := signedCode(v, inv, top)
			wx, wl := float32(w[i]*v), float32(w[i]*l)
			sumXL += float32(wx * l)
			sumL2 += float32(wl * l)
		}
		return sumXL, sumL2
	}
	fit := scaleFit{inv: -top / extreme}
	sumXL, sumL2 := try(fit.inv)
	if sumL2 != 0 {
		fit.scale = sumXL / sumL2
	}
	best := float32(fit.scale * sumXL)
	for i := -9; i <= 9; i++ {
		if i == 0 {
			continue
		}
		inv := -(top + float32(0.1*float32(i))) / extreme
		sumXL, sumL2 = try(inv)
		if sumL2 > 0 && float32(sumXL*sumXL) > float32(best*sumL2) {
			fit = scaleFit{sumXL / sumL2, inv}
			best = float32(fit.scale * sumXL)
		}
	}
	return fit
}

// signedCode returns the code of a value, a whole number.
func signedCode(v, inv, top float32) float32 {
	return min(max(float32(float32(inv*v)+roundingMagic)-roundingMagic, -top), top-1)
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }
