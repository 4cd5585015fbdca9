package testmodel

import (
	"fmt"
	"math"
)

// referenceRope is a rotary embedding (RoFormer, arXiv:2104.09864) with its scaling, as rope_scaling or rope_parameters give
// it. Formulas are those of transformers, modeling_rope_utils.py, without its rounding to float32.
type referenceRope struct {
	Type         string   `json:"rope_type"`
	OldType      string   `json:"type"`
	Theta        float64  `json:"rope_theta"`
	Factor       float64  `json:"factor"`
	Low          float64  `json:"low_freq_factor"`
	High         float64  `json:"high_freq_factor"`
	Original     int      `json:"original_max_position_embeddings"`
	BetaFast     float64  `json:"beta_fast"`
	BetaSlow     float64  `json:"beta_slow"`
	Attention    float64  `json:"attention_factor"`
	MScale       float64  `json:"mscale"`
	MScaleAllDim float64  `json:"mscale_all_dim"`
	Truncate     *bool    `json:"truncate"`
	Partial      *float64 `json:"partial_rotary_factor"`
}

// settle fills in what is not given and refuses what the pass does not compute.
func (r *referenceRope) settle(theta float64, maxPosition int) error {
	if r.Type == "" {
		r.Type = r.OldType
	}
	if r.Theta == 0 {
		r.Theta = theta
	}
	if r.Theta <= 1 {
		return fmt.Errorf("rope_theta %g is not above 1", r.Theta)
	}
	if r.Partial != nil && *r.Partial != 1 {
		return fmt.Errorf("partial_rotary_factor %g is not supported", *r.Partial)
	}
	switch r.Type {
	case "", "default":
		return nil
	case "linear":
	case "dynamic":
		r.Original = maxPosition
	case "llama3":
		if r.High <= r.Low || r.Low <= 0 {
			return fmt.Errorf("low_freq_factor %g and high_freq_factor %g", r.Low, r.High)
		}
	case "yarn":
		if r.Original == 0 {
			r.Original = maxPosition
		}
		if r.BetaFast == 0 {
			r.BetaFast = 32
		}
		if r.BetaSlow == 0 {
			r.BetaSlow = 1
		}
	default:
		return fmt.Errorf("rope_type %q is not supported", r.Type)
	}
	if r.Factor < 1 {
		return fmt.Errorf("factor %g of rope_type %q", r.Factor, r.Type)
	}
	if r.Type != "linear" && r.Original <= 0 {
		return fmt.Errorf("rope_type %q needs the length that was trained", r.Type)
	}
	return nil
}

// frequencies returns the angle per position of each pair of dimensions, [K/2], and the factor on cosines and sines. Only
// "dynamic" looks at the length.
func (r *referenceRope) frequencies(k, t int) (inv []float64, factor float64) {
	theta, factor := r.Theta, 1.0
	if n := float64(r.Original); r.Type == "dynamic" && float64(t) > n && k > 2 {
		theta *= math.Pow(r.Factor*float64(t)/n-(r.Factor-1), float64(k)/float64(k-2))
	}
	inv = make([]float64, k/2)
	for j := range inv {
		f := math.Pow(theta, -2*float64(j)/float64(k))
		switch r.Type {
		case "linear":
			f /= r.Factor
		case "llama3":
			f = r.llama3(f)
		case "yarn":
			keep := r.yarnKeep(j, k)
			f = f/r.Factor*(1-keep) + f*keep
			factor = r.yarnFactor()
		}
		inv[j] = f
	}
	return inv, factor
}

// llama3 keeps frequencies whose wave is short for the trained length, divides those whose wave is long, and goes over in
// between (Llama 3.1).
func (r *referenceRope) llama3(f float64) float64 {
	turns := float64(r.Original) * f / (2 * math.Pi)
	smooth := min(max((turns-r.Low)/(r.High-r.Low), 0), 1)
	return (1-smooth)*f/r.Factor + smooth*f
}

// yarnKeep is how much of the unscaled frequency a pair keeps: 1 minus the ramp of YaRN (arXiv:2309.00071, section 3.2).
func (r *referenceRope) yarnKeep(j, k int) float64 {
	pair := func(turns float64) float64 {
		return float64(k) * math.Log(float64(r.Original)/(turns*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high := pair(r.BetaFast), pair(r.BetaSlow)
	if r.Truncate == nil || *r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(k-1))
	if low == high {
		high += 0.001
	}
	return 1 - min(max((float64(j)-low)/(high-low), 0), 1)
}

// yarnFactor sharpens attention for the longer context (YaRN, section 3.4).
func (r *referenceRope) yarnFactor() float64 {
	scale := func(m float64) float64 { return 0.1*m*math.Log(r.Factor) + 1 }
	switch {
	case r.Attention > 0:
		return r.Attention
	case r.MScale != 0 && r.MScaleAllDim != 0:
		return scale(r.MScale) / scale(r.MScaleAllDim)
	}
	return scale(1)
}

// rotate turns heads x [T, heads*K] in place. Dimension c is paired with c+K/2.
func rotate(x, inv []float64, factor float64, t, heads int) {
	half := len(inv)
	for i := range t {
		for j, f := range inv {
			sin, cos := math.Sincos(float64(i) * f)
			sin, cos = sin*factor, cos*factor
			for h := range heads {
				at := (i*heads+h)*2*half + j
				a, b := x[at], x[at+half]
				x[at], x[at+half] = a*cos-b*sin, b*cos+a*sin
			}
		}
	}
}
