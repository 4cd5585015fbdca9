package nn

import (
	"math"
	"slices"

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

// rotaryTable holds cosines and sines [T, K/2] for one head dim.
type rotaryTable struct {
	k, t, freqT int // freqT is the length that the frequencies were made for, 0 where they do not depend on it
	sequences   int // how often the positions stand one after the other
	cos, sin    []float32
	back        []float32 // -sin, once it is asked for
}

// rotary returns the tables for t rows of head dim k, the positions of so many sequences of one length (0 means one), made anew only
// where a longer sequence or more of them need it.
func (m *Model) rotary(k, t, sequences int) (cos, sin []float32) {
	e := m.rotaryTable(k, t, sequences)
	return e.cos, e.sin
}

// rotaryBack returns the tables of the transposed rotation: the way back of a gradient.
func (m *Model) rotaryBack(k, t, sequences int) (cos, sin []float32) {
	e := m.rotaryTable(k, t, sequences)
	if e.back == nil {
		e.back = make([]float32, len(e.sin))
		for i, v := range e.sin {
			e.back[i] = -v
		}
	}
	return e.cos, e.back
}

func (m *Model) rotaryTable(k, rows, sequences int) *rotaryTable {
	sequences = max(1, sequences)
	r, t := m.Arch.Rope, rows/sequences
	freqT := 0
	if r.Type == "dynamic" {
		freqT = max(t, r.OriginalMaxPosition)
	}
	for i := range m.tables {
		e := &m.tables[i]
		if e.k != k || (e.sequences > 1 || sequences > 1) && (e.sequences < sequences || e.t != t) {
			continue
		}
		if e.t < t || e.freqT != freqT {
			*e = newRotaryTable(r, k, t, freqT)
		}
		return e
	}
	m.tables = slices.DeleteFunc(m.tables, func(e rotaryTable) bool { return e.k == k && (e.sequences > 1) == (sequences > 1) })
	m.tables = append(m.tables, newRotaryTable(r, k, t, freqT).repeated(sequences))
	return &m.tables[len(m.tables)-1]
}

// repeated returns the table with its positions so often.
func (e rotaryTable) repeated(sequences int) rotaryTable {
	e.sequences, e.cos, e.sin = sequences, slices.Repeat(e.cos, sequences), slices.Repeat(e.sin, sequences)
	return e
}

func newRotaryTable(r *arch.Rope, k, t, freqT int) rotaryTable {
	inv, factor := InvFreq(r, k, max(freqT, 1))
	e := rotaryTable{k: k, t: t, freqT: freqT, sequences: 1, cos: make([]float32, t*len(inv)), sin: make([]float32, t*len(inv))}
	for i := range t {
		for j, f := range inv {
			s, c := math.Sincos(float64(float32(i) * f))
			e.cos[i*len(inv)+j] = float32(c) * factor
			e.sin[i*len(inv)+j] = float32(s) * factor
		}
	}
	return e
}
