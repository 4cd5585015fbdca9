package distill

import (
	"errors"
	"fmt"
)

// Diverged says that a run has left the range where it learns anything. What was trained before the step stands, and so do
// checkpoints.
type Diverged struct {
	Step  int     // counted from 0
	Rate  float64 // of the step
	Cause error
}

// Error says what happened, and what can be done.
func (d *Diverged) Error() string {
	return fmt.Sprintf("distill: step %d diverged at a rate of %.3g: %v; take a lower rate or a longer warmup, clip gradients, "+
		"or go on from an earlier checkpoint in another order", d.Step, d.Rate, d.Cause)
}

// Unwrap returns the cause.
func (d *Diverged) Unwrap() error { return d.Cause }

// errExploded says that a loss is finite and far above where it began.
var errExploded = errors.New("the loss has grown")
