package distill

import (
	"context"
	"errors"
	"math"
)

// Heldout is the objective on the held-out windows.
type Heldout struct {
	Step  int     // after which it was measured
	Loss  float64 // the objective, without what masks add
	Parts []Measure
	Best  bool // the lowest so far
}

// Evaluate measures the objective on the held-out windows and trains nothing. Masks are those of [Evaluation].
func (t *Trainer) Evaluate(ctx context.Context) (Heldout, error) {
	if err := t.prepare(); err != nil {
		return Heldout{}, err
	}
	if len(t.heldout.ids) == 0 {
		return Heldout{}, errors.New("distill: evaluation: no held-out windows")
	}
	if t.Objective.unpredicted() {
		return Heldout{}, errUnpredicted
	}
	if err := t.beginMasks(Evaluation, len(t.heldout.ids)); err != nil {
		return Heldout{}, err
	}
	p := t.part
	p.begin(false, meansOf(t.heldout.ids))
	for at := 0; at < len(t.heldout.ids); at += t.Options.Batch {
		var index []int
		for i := at; i < min(len(t.heldout.ids), at+t.Options.Batch); i++ {
			index = append(index, i)
		}
		p.take(t.heldout, index, at)
		if err := p.forward(ctx); err != nil {
			return Heldout{}, err
		}
	}
	return Heldout{Step: t.Steps(), Loss: p.loss(), Parts: p.report()}, nil
}

// evaluateDue makes the evaluation of the steps done, where one is due, and keeps the best parameters.
func (t *Trainer) evaluateDue(ctx context.Context) error {
	s, every := &t.state, int64(t.Options.Evaluate)
	if every == 0 || s.evaluated == s.step || s.step%every != 0 && s.step < int64(t.Options.Schedule.Steps) {
		return nil
	}
	h, err := t.Evaluate(ctx)
	if err != nil {
		return t.explain(ctx, err)
	}
	if math.IsNaN(h.Loss) || math.IsInf(h.Loss, 0) {
		return t.diverged(ErrNotFinite)
	}
	if h.Best, _, err = s.stop.See(s.step, h.Loss); err != nil {
		return err
	}
	if s.evaluated = s.step; h.Best && t.Options.KeepBest {
		t.keepBest()
	}
	if t.Options.Evaluated != nil {
		t.Options.Evaluated(h)
	}
	return nil
}

// Best returns the lowest loss of an evaluation of the run and the number of steps after which it was measured; false where there was
// none.
func (t *Trainer) Best() (step int, loss float64, ok bool) {
	s := &t.state.stop
	return int(s.BestStep), s.Best, s.Seen
}

func (t *Trainer) keepBest() {
	for i, q := range t.optimizer.Params() {
		t.best[i].take(q)
	}
}

// restoreBest gives the parameters the values of the best evaluation.
func (t *Trainer) restoreBest() {
	if !t.state.stop.Seen {
		return
	}
	for i, q := range t.best {
		t.optimizer.Params()[i].take(q)
	}
	t.refresh()
}

// take copies the values of a parameter of the same shape and type.
func (q *Param) take(from *Param) {
	from.pull(false)
	q.pull(true)
	copy(q.Values, from.Values)
	copy(q.Half, from.Half)
	q.push()
}
