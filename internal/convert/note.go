package convert

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
	// Values counts those that were compared with the source, Changed those of them that are different.
	Values  int64 `json:"values,omitempty"`
	Changed int64 `json:"changed,omitempty"`
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

// into writes the sum into a note.
func (e *errorSum) into(n *Note) {
	n.Values, n.Changed, n.MaxError = e.n, e.changed, rounded(e.max)
	if e.den > 0 {
		n.RelativeError = rounded(e.num / e.den)
	}
}
