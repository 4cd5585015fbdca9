package llamacpp

import (
	"math"

	"modelpress/formats/gguf"
	"modelpress/internal/arch"
)

// The corrections of YaRN that ggml computes with (llama_context_default_params and rope_yarn).
const (
	yarnFast = 32
	yarnSlow = 1
)

// checkRope refuses rotary embeddings that the architecture would compute otherwise.
func (d *describer) checkRope() {
	r := d.src.Rope
	if r == nil {
		return
	}
	switch {
	case r.Type == "llama3" && !permutes(d.out.Architecture):
		d.refuse("convert a model without rope_scaling llama3", "%s does not read the frequencies of llama3", d.out.Architecture)
	case r.Type == "yarn" && (r.BetaFast != yarnFast || r.BetaSlow != yarnSlow):
		d.refuse("use the default beta_fast and beta_slow", "yarn has beta_fast %d and beta_slow %d, the model %g and %g", yarnFast, yarnSlow,
			r.BetaFast, r.BetaSlow)
	case r.Type == "yarn" && !r.Truncate:
		d.refuse("use a model with truncate", "yarn rounds its range to whole dims, the model does not")
	case r.Type == "dynamic":
		d.warn("dynamic rope scaling is not written, since llama.cpp has none: results are the same up to %d tokens, and differ past them",
			r.OriginalMaxPosition)
	}
}

// ropeKeys lists the keys of the rotary embedding. Those of llama3 are for [Open] alone: llama.cpp reads its frequencies from a tensor.
func (d *describer) ropeKeys() {
	r := d.src.Rope
	switch r.Type {
	case "linear":
		d.add(keyScaling, gguf.String("linear"))
		d.float(keyFactor, float32(r.Factor))
	case "yarn":
		d.add(keyScaling, gguf.String("yarn"))
		d.float(keyFactor, float32(r.Factor))
		d.number(keyOriginal, r.OriginalMaxPosition)
		if f := yarnAttention(r); f != 1 {
			d.float(keyAttnFactor, f)
		}
	case "llama3":
		d.number(keyOriginal, r.OriginalMaxPosition)
		if r.LowFreqFactor != 1 || r.HighFreqFactor != 4 {
			d.float(keyLowFreq, float32(r.LowFreqFactor))
			d.float(keyHighFreq, float32(r.HighFreqFactor))
		}
	}
	d.float(keyTheta, float32(r.Theta))
}

// yarnAttention returns the factor on cosines and sines beside the one that ggml applies itself, 1 + 0.1 ln(factor). transformers 4.47,
// modeling_rope_utils.py, _compute_yarn_parameters.
func yarnAttention(r *arch.Rope) float32 {
	scale := func(m float64) float64 { return 1 + float64(0.1*m*math.Log(r.Factor)) }
	switch {
	case r.AttentionFactor != 0:
		return float32(r.AttentionFactor / scale(1))
	case r.MScale != 0 && r.MScaleAllDim != 0:
		return float32(scale(r.MScale) / scale(r.MScaleAllDim) / scale(1))
	}
	return 1
}

// llama3Factors returns what the frequencies of a head [K/2] are divided by (Llama 3.1; transformers 4.47, modeling_rope_utils.py,
// _compute_llama3_parameters).
func llama3Factors(r *arch.Rope, k int) []float32 {
	out := make([]float32, k/2)
	old := float64(r.OriginalMaxPosition)
	for j := range out {
		wave := 2 * math.Pi * math.Pow(r.Theta, float64(2*j)/float64(k))
		switch {
		case wave < old/r.HighFreqFactor:
			out[j] = 1
		case wave > old/r.LowFreqFactor:
			out[j] = float32(r.Factor)
		default:
			smooth := (old/wave - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			out[j] = float32(1 / ((1-smooth)/r.Factor + smooth))
		}
	}
	return out
}
