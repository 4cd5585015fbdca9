package convert

import (
	"encoding/binary"
	"math"

	"modelpress/formats"
)

// How a tensor of the result came about.
const (
	Copied      = "copied"      // the bytes as they are stored
	Cast        = "cast"        // another element type
	Dequantized = "dequantized" // plain values of a quantized weight
	Carried     = "carried"     // the same codes in other bits
	Requantized = "requantized" // quantized anew, or for the first time
	Computed    = "computed"    // made from the configuration
)

// Note says what became of one tensor of the source, or of one that the result has besides.
type Note struct {
	Tensor string `json:"tensor"` // in the source
	How    string `json:"how"`
	From   string `json:"from"` // how it is stored there
	To     string `json:"to"`   // and here
	// Values counts those that were compared with the source, Changed those of them that are different. The sign of a zero is no value.
	Values  int64 `json:"values,omitempty"`
	Changed int64 `json:"changed,omitempty"`
	// Sampled is set where one chunk in 16 was compared.
	Sampled bool `json:"sampled,omitempty"`
	// RelativeError is Σ(w-ŵ)² / Σw² over the compared values, MaxError the largest |w-ŵ|.
	RelativeError float64 `json:"relative_error,omitempty"`
	MaxError      float64 `json:"max_error,omitempty"`
	// Why says why codes were not carried over, where the weight had some.
	Why string `json:"why,omitempty"`
}

// errorSum sums what a Note says of values.
type errorSum struct {
	n, changed int64
	num, den   float64
	max        float64
}

// add compares values with what became of them.
func (e *errorSum) add(w, got []float32) {
	for i, v := range w {
		if v != got[i] {
			e.changed++
			d := float64(v) - float64(got[i])
			e.num += float64(d * d)
			e.max = max(e.max, d, -d)
		}
		e.den += float64(float64(v) * float64(v))
	}
	e.n += int64(len(w))
}

// narrow counts the values of a source that float32, as which all were read and compared, does not hold: those of F64.
func (e *errorSum) narrow(src formats.Source, name string) error {
	t, ok := src.Lookup(name)
	if !ok || t.DType != formats.F64 {
		return nil
	}
	size, err := t.Bytes()
	if err != nil {
		return formats.Errorf("", name, "%w", err)
	}
	buf := make([]byte, min(size, chunk))
	for off := int64(0); off < size; off += chunk {
		p := buf[:min(chunk, size-off)]
		if err := src.ReadAt(name, p, off); err != nil {
			return err
		}
		for ; len(p) > 0; p = p[8:] {
			if v := math.Float64frombits(binary.LittleEndian.Uint64(p)); float64(float32(v)) != v && e.changed < e.n {
				e.changed++
			}
		}
	}
	return nil
}

// merge adds another sum. Sums are merged in the order of rows.
func (e *errorSum) merge(o errorSum) {
	e.n += o.n
	e.changed += o.changed
	e.num += o.num
	e.den += o.den
	e.max = max(e.max, o.max)
}

// into writes the sum into a note.
func (e *errorSum) into(n *Note) {
	n.Values, n.Changed, n.MaxError = e.n, e.changed, rounded(e.max)
	if e.den > 0 {
		n.RelativeError = rounded(e.num / e.den)
	}
}
