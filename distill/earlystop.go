package distill

import (
	"fmt"
	"math"
)

// EarlyStop ends a run whose held-out loss no longer falls: after Patience evaluations in a row that were not below the best
// one by more than Margin. A Patience of 0 never ends it.
type EarlyStop struct {
	Patience int
	Margin   float64

	// What has been seen, which a checkpoint keeps.
	Best     float64 // lowest loss, where Seen
	BestStep int64   // the step after which it was measured
	Worse    int     // evaluations in a row without a new best
	Seen     bool
}

// See takes the held-out loss after a step. It reports whether this is the best so far, and whether the run is to end. A loss
// that is not finite is an error.
func (e *EarlyStop) See(step int64, loss float64) (best, stop bool, err error) {
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return false, false, fmt.Errorf("distill: held-out loss after step %d is %g", step, loss)
	}
	if !e.Seen || loss < e.Best-e.Margin {
		e.Best, e.BestStep, e.Worse, e.Seen = loss, step, 0, true
		return true, false, nil
	}
	e.Worse++
	return false, e.Patience > 0 && e.Worse >= e.Patience, nil
}
