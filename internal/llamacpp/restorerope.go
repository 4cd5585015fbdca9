package llamacpp

import (
	"math"
	"strconv"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/internal/arch"
)

// rope reads the rotary embedding.
func (r *restorer) rope(m *arch.Model, k int) *arch.Rope {
	p := &arch.Rope{Type: "default", Theta: r.floatOr(keyTheta, 10000), Dim: k, Truncate: true}
	kind := r.textOr(keyScaling, "linear")
	factor := r.floatOr(keyFactor, r.floatOr("rope.scale_linear", 1))
	attention := r.floatOr(keyAttnFactor, 1)
	original := r.numberOr(keyOriginal, m.MaxPosition, 1, maxContext)
	switch {
	case kind == "yarn":
		p.Type, p.Factor, p.OriginalMaxPosition, p.BetaFast, p.BetaSlow = "yarn", factor, original, yarnFast, yarnSlow
		p.AttentionFactor = attentionFactor(factor, attention)
	case kind == "linear" && factor != 1:
		p.Type, p.Factor = "linear", factor
	case kind != "linear" && kind != "none":
		r.fault(keyScaling, "%q is not supported, only linear, yarn and none", clip(kind))
	}
	if attention != 1 && kind != "yarn" {
		r.fault(keyAttnFactor, "%g is supported with yarn alone", attention)
	}
	if r.has(nameRopeFreqs) {
		r.frequencies(p, k, original)
	}
	return p
}

// attentionFactor is the way back of [yarnAttention]: the number with the fewest digits that gives the stored one, 0 for the usual one.
func attentionFactor(factor, stored float64) float64 {
	if stored == 1 {
		return 0
	}
	scale := 1 + float64(0.1*math.Log(factor))
	for digits := 1; digits < 17; digits++ {
		v, err := strconv.ParseFloat(strconv.FormatFloat(stored*scale, 'g', digits, 64), 64)
		if err == nil && float32(v/scale) == float32(stored) {
			return v
		}
	}
	return stored * scale
}

// Keys that say exactly what the frequencies of llama3 only follow from. llama.cpp does not read them.
const (
	keyLowFreq  = "rope.scaling.low_freq_factor"
	keyHighFreq = "rope.scaling.high_freq_factor"
)

// frequencies finds the settings of llama3 that give the stored factors: as the keys say, or with the usual ones and a length that is a
// power of two, or by solving for them.
func (r *restorer) frequencies(p *arch.Rope, k, original int) {
	t := r.tensors[nameRopeFreqs]
	values := make([]float32, k/2)
	if t.Type != ggml.F32 || len(t.Shape) != 1 || t.Shape[0] != int64(k/2) {
		r.fault(keyScaling, "tensor %q is %s of shape %v, not F32 of %d values", t.Name, t.Type, t.Shape, k/2)
		return
	}
	raw := make([]byte, 4*len(values))
	err := r.file.ReadAt(t.Name, raw, 0)
	if err == nil {
		err = formats.Decode(values, raw, formats.F32)
	}
	if err != nil {
		r.faults = append(r.faults, err)
		return
	}
	low, high := r.floatOr(keyLowFreq, 1), r.floatOr(keyHighFreq, 4)
	factor := 1.0
	for _, v := range values {
		factor = max(factor, float64(v))
	}
	switch {
	case factor == 1 && allOnes(values):
		return
	case p.Type != "default":
		r.fault(keyScaling, "%s beside factors of frequencies is not supported", p.Type)
		return
	}
	try := func(old int, low, high float64) bool {
		q := *p
		q.Type, q.Factor, q.LowFreqFactor, q.HighFreqFactor, q.OriginalMaxPosition = "llama3", factor, low, high, old
		if old < 1 || old > maxContext || !(low > 0 && low < high) || !near(llama3Factors(&q, k), values) {
			return false
		}
		*p = q
		return true
	}
	if try(original, low, high) || try(8192, 1, 4) {
		return
	}
	for old := 1 << 24; old > 1; old /= 2 {
		if try(old, 1, 4) {
			return
		}
	}
	if old, high := solveLlama3(values, p.Theta, factor, k); try(old, 1, high) {
		return
	}
	r.fault(keyScaling, "tensor %q has factors that are not those of llama3", nameRopeFreqs)
}

func allOnes(values []float32) bool {
	for _, v := range values {
		if v != 1 {
			return false
		}
	}
	return true
}

// near allows for the rounding of other programs.
func near(a, b []float32) bool {
	for i := range a {
		if !(math.Abs(float64(a[i])/float64(b[i])-1) < 1e-4) {
			return false
		}
	}
	return true
}

// solveLlama3 finds length and high_freq_factor for a low_freq_factor of 1 from the factors between the extremes: smooth is a straight
// line over the reciprocal of the wave length. The three settings hold up to a common multiple.
func solveLlama3(values []float32, theta, factor float64, k int) (original int, high float64) {
	var x, y []float64
	for j, v := range values {
		if v > 1 && float64(v) < factor {
			x = append(x, 1/(2*math.Pi*math.Pow(theta, float64(2*j)/float64(k))))
			y = append(y, (1/float64(v)-1/factor)/(1-1/factor))
		}
	}
	n := len(x) - 1
	if n < 1 {
		return 0, 0
	}
	slope := (y[0] - y[n]) / (x[0] - x[n])
	offset := float64(slope*x[0]) - y[0] // low / (high - low)
	span := 1 / offset
	old := math.Round(slope * span)
	if !(offset > 0 && old >= 1 && old <= maxContext) {
		return 0, 0
	}
	high = 1 + span
	if r := math.Round(high*1000) / 1000; math.Abs(r-high) < 1e-3 {
		high = r
	}
	return int(old), high
}
