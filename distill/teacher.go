package distill

import (
	"context"
	"slices"

	"modelpress/internal/nn"
)

// teacher runs the teacher over the windows of a part and keeps what the losses ask for.
type teacher struct {
	model   *nn.Model // as far up as the objective looks; nil for none
	logit   bool      // its logits are looked at
	lengths []int
	states  *nn.States // those of the windows, in the end the final ones
}

func newTeacher(o *Objective) *teacher {
	t := &teacher{logit: o.KL != 0 && o.TopK == nil}
	if o.Teacher == nil || !t.logit {
		return t
	}
	t.model = o.Teacher
	return t
}

// run makes what it keeps that of the given windows.
func (t *teacher) run(ctx context.Context, ids [][]int32) error {
	if t.model == nil {
		return nil
	}
	if n := lengths(ids); t.states == nil || !slices.Equal(n, t.lengths) {
		s, err := nn.NewStates("", n, t.model.Arch.D, 0)
		if err != nil {
			return err
		}
		t.states, t.lengths = s, n
	}
	return t.model.Run(ctx, ids, nn.RunOptions{States: t.states}, nil)
}

// logits calls f with the teacher's logits [rows, V] for some rows of a window.
func (t *teacher) logits(w, row, rows int, f func(logits []float32) error) error {
	x, err := t.states.View(w)
	if err != nil {
		return err
	}
	return t.model.Head(x[row*t.model.Arch.D:], rows, rows, func(_, _ int, logits []float32) error { return f(logits) })
}
