package arch

import "math"

// readRope reads the rotary embedding: rope_theta with rope_scaling as transformers 4 writes them, or both in
// rope_parameters as transformers 5 does. The kind stands under rope_type or, in older files, type.
func readRope(f *fields, maxPos int) *Rope {
	r := &Rope{Type: "default", Truncate: true}
	scaling, params := f.object("rope_scaling"), f.object("rope_parameters")
	missing := ""
	if params != nil {
		if scaling != nil {
			f.fault("rope_parameters", "stands beside rope_scaling; one of them must go")
		}
		for _, nested := range []string{"full_attention", "sliding_attention"} {
			if params.has(nested) {
				params.fault(nested, "rotary embeddings that differ between layers are not supported")
			}
		}
		scaling, missing = params, "default"
	}
	r.Theta = f.numberOr("rope_theta", 10000, math.SmallestNonzeroFloat64, math.MaxFloat32)
	if scaling == nil {
		return r
	}
	r.Theta = scaling.numberOr("rope_theta", r.Theta, math.SmallestNonzeroFloat64, math.MaxFloat32)
	if p := scaling.numberOr("partial_rotary_factor", 1, 0, 1); p != 1 {
		scaling.fault("partial_rotary_factor", "%g is not supported, only 1", p)
	}
	r.Type = scaling.stringOr("rope_type", scaling.stringOr("type", missing))
	if r.Type == "" {
		scaling.fault("rope_type", "is missing")
	}
	r.scale(scaling, maxPos)
	return r
}

// scale reads what the kind of scaling needs.
func (r *Rope) scale(s *fields, maxPos int) {
	const most = 1e6
	switch r.Type {
	case "", "default":
		return
	case "linear":
	case "dynamic":
		// transformers counts from max_position_embeddings even where the original one is given.
		r.OriginalMaxPosition = maxPos
	case "llama3":
		r.LowFreqFactor = s.number("low_freq_factor", 0, most)
		r.HighFreqFactor = s.number("high_freq_factor", 0, most)
		r.OriginalMaxPosition = s.integer("original_max_position_embeddings", 1, maxPosition)
		if r.LowFreqFactor >= r.HighFreqFactor {
			s.fault("high_freq_factor", "%g is not above low_freq_factor %g", r.HighFreqFactor, r.LowFreqFactor)
		}
	case "yarn":
		// Releases of transformers after 4.47 heed the original length and mscale, which 4.47 passes over; the
		// checkpoints that give them (Qwen, DeepSeek) mean them.
		r.OriginalMaxPosition = s.integerOr("original_max_position_embeddings", maxPos, 1, maxPosition)
		r.BetaFast = orDefault(s.numberOr("beta_fast", 32, 0, most), 32)
		r.BetaSlow = orDefault(s.numberOr("beta_slow", 1, 0, most), 1)
		r.AttentionFactor = s.numberOr("attention_factor", 0, 1e-6, most)
		r.MScale = s.numberOr("mscale", 0, 0, most)
		r.MScaleAllDim = s.numberOr("mscale_all_dim", 0, 0, most)
		r.Truncate = s.boolOr("truncate", true)
		if r.Theta <= 1 {
			s.fault("rope_theta", "yarn needs one above 1")
		}
	default:
		s.fault("rope_type", "%q is not supported, only default, linear, dynamic, llama3 and yarn", r.Type)
		return
	}
	r.Factor = s.number("factor", 1, most)
}

// orDefault replaces 0, which transformers takes for "not given".
func orDefault(v, def float64) float64 {
	if v == 0 {
		return def
	}
	return v
}
