package formats

import "fmt"

// Inexact is the error of an encoder whose format cannot hold a weight without a change of a value.
type Inexact struct {
	Tensor string
	Count  int    // of values, scales or zero points that would change
	Cause  string // what does not fit: "scales past the range of F16"
}

// Error implements error.
func (e *Inexact) Error() string {
	return fmt.Sprintf("tensor %q: %d %s", e.Tensor, e.Count, e.Cause)
}
