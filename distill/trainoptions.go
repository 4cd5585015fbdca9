package distill

import (
	"errors"
	"fmt"
	"math"
)

// Options say how a run of training goes. The zero value of a field that is not said to be needed leaves its part out.
type Options struct {
	Schedule Schedule // of the rate; needed
	AdamW    AdamW    // of the optimizer; the zero value stands for [DefaultAdamW]
	// A step looks at Batch*Accumulate windows, of which Batch go through the models together. How they are split between the two
	// changes memory and the order of some sums.
	Batch, Accumulate int     // windows of a part, at least 1; parts of a step, 0 for 1
	Seed              uint64  // of the order of windows and of rounding
	InOrder           bool    // windows are not shuffled
	Clip              float64 // largest global norm of the gradient; 0 for any
	// Explode ends the run with [Diverged] where the loss of a step is more than so many times that of the first one, and more than so
	// many times that of a student for which all tokens are alike.
	Explode float64

	// Evaluate is the number of steps from one evaluation on the held-out windows to the next; there is one before the first step and one
	// after the last. With Patience the run ends after so many evaluations in a row that were not better than the best by Margin.
	Evaluate, Patience int
	Margin             float64
	// KeepBest has Train leave the parameters of the best evaluation. It takes a copy of them.
	KeepBest bool

	// Save is called after each SaveEvery steps, when the run is interrupted, and at its end, to write a checkpoint with
	// [WriteState]. What s holds is valid during the call.
	SaveEvery int
	Save      func(s *State) error

	Progress  func(Report)  // sees each step
	Evaluated func(Heldout) // sees each evaluation

	Keep     int64  // bytes of activations kept on the device, as nn.BackOptions.Keep
	Dir      string // where states go once they pass MemLimit, as nn.BackOptions.Dir
	MemLimit int64  // bytes of states kept in memory; 0 for no limit
}

// windows is the number of windows of a step.
func (o *Options) windows() int { return o.Batch * max(1, o.Accumulate) }

// check fills in what zero values stand for.
func (o *Options) check() error {
	if o.AdamW == (AdamW{}) {
		o.AdamW = DefaultAdamW()
	}
	o.Accumulate = max(1, o.Accumulate)
	return errors.Join(o.Schedule.Check(), o.AdamW.Check(), o.checkNumbers())
}

func (o *Options) checkNumbers() error {
	finite := func(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }
	switch {
	case o.Batch < 1 || o.Batch > maxWindows/o.Accumulate:
		return fmt.Errorf("distill: training: %d parts of %d windows a step", o.Accumulate, o.Batch)
	case !finite(o.Clip) || !finite(o.Margin) || !finite(o.Explode):
		return fmt.Errorf("distill: training: norm up to %g, margin %g, loss up to %g times the first", o.Clip, o.Margin, o.Explode)
	case o.Evaluate < 0 || o.Patience < 0 || o.SaveEvery < 0 || o.Keep < 0 || o.MemLimit < 0:
		return errors.New("distill: training: a negative number of steps or bytes")
	case o.Evaluate == 0 && (o.Patience > 0 || o.KeepBest):
		return errors.New("distill: training: patience, or the best parameters, without evaluations")
	case o.SaveEvery > 0 && o.Save == nil:
		return errors.New("distill: training: checkpoints without a place for them")
	}
	return nil
}
