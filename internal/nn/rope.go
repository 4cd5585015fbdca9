package nn

import (
	"math"

	"modelpress/internal/arch"
)

// InvFreq returns the inverse frequencies [dim/2] of a rotary embedding for a sequence of t positions, and the factor
// that its cosines and sines are multiplied by. Formulas and precision (f32) are those of transformers 4.47,
// modeling_rope_utils.py; RoPE itself is arXiv:2104.09864.
func InvFreq(r *arch.Rope, dim, t int) (inv []float32, factor float32) {
	switch r.Type {
	case "linear":
		inv = baseFreq(r.Theta, dim)
		for j := range inv {
			inv[j] /= float32(r.Factor)
		}
		return inv, 1
	case "dynamic":
		return baseFreq(dynamicBase(r, dim, t), dim), 1
	case "llama3":
		return llama3Freq(r, dim), 1
	case "yarn":
		return yarnFreq(r, dim), float32(yarnFactor(r))
	}
	return baseFreq(r.Theta, dim), 1
}

// baseFreq: inv[j] = 1 / theta^(2j/dim), each step rounded to f32.
func baseFreq(theta float64, dim int) []float32 {
	inv := make([]float32, dim/2)
	for j := range inv {
		inv[j] = 1 / positional(theta, dim, j)
	}
	return inv
}

func positional(theta float64, dim, j int) float32 {
	e := float32(2*j) / float32(dim)
	return float32(math.Pow(float64(float32(theta)), float64(e)))
}

// dynamicBase raises theta with the length beyond the trained one ("dynamic NTK").
func dynamicBase(r *arch.Rope, dim, t int) float64 {
	most := float64(r.OriginalMaxPosition)
	length := max(float64(t), most)
	if length == most || dim <= 2 {
		return r.Theta
	}
	return r.Theta * math.Pow(r.Factor*length/most-(r.Factor-1), float64(dim)/float64(dim-2))
}

// llama3Freq divides slow rotations by the factor, keeps fast ones, and goes over between them (Llama 3.1).
func llama3Freq(r *arch.Rope, dim int) []float32 {
	inv := baseFreq(r.Theta, dim)
	old, low := float32(r.OriginalMaxPosition), float32(r.LowFreqFactor)
	slowest, fastest := float32(float64(r.OriginalMaxPosition)/r.LowFreqFactor), float32(float64(r.OriginalMaxPosition)/r.HighFreqFactor)
	span, factor := float32(r.HighFreqFactor-r.LowFreqFactor), float32(r.Factor)
	for j, f := range inv {
		wave := float32(2*math.Pi) / f
		switch {
		case wave > slowest:
			inv[j] = f / factor
		case wave >= fastest:
			smooth := (old/wave - low) / span
			inv[j] = float32(float32((1-smooth)*f)/factor) + float32(smooth*f)
		}
	}
	return inv
}

// yarnFreq blends interpolated and unchanged frequencies (arXiv:2309.00071, section 3.2).
func yarnFreq(r *arch.Rope, dim int) []float32 {
	low, high := yarnRange(r, dim)
	inv := make([]float32, dim/2)
	for j := range inv {
		p := positional(r.Theta, dim, j)
		ramp := min(max((float32(j)-float32(low))/float32(high-low), 0), 1)
		keep := 1 - ramp
		inv[j] = float32(1/(float32(r.Factor)*p)*(1-keep)) + float32(1/p*keep)
	}
	return inv
}

// yarnRange returns the dimensions between which the blend runs.
func yarnRange(r *arch.Rope, dim int) (low, high float64) {
	at := func(rotations float64) float64 {
		return float64(dim) * math.Log(float64(r.OriginalMaxPosition)/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high = at(r.BetaFast), at(r.BetaSlow)
	if r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(dim-1))
	if low == high {
		high += 0.001
	}
	return low, high
}

// yarnFactor is the factor on cosines and sines that sharpens attention: given, or 0.1*ln(factor)+1, or the ratio of
// the two mscale forms.
func yarnFactor(r *arch.Rope) float64 {
	scale := func(m float64) float64 {
		if r.Factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(r.Factor) + 1
	}
	switch {
	case r.AttentionFactor != 0:
		return r.AttentionFactor
	case r.MScale != 0 && r.MScaleAllDim != 0:
		return scale(r.MScale) / scale(r.MScaleAllDim)
	}
	return scale(1)
}
