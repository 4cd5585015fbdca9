package distill

import (
	"context"
	"errors"
	"fmt"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// Trainer is a run of training: the steps from a model to a better one, as to an objective, on windows of tokens. A step takes the
// gradient of the objective's mean over all tokens of its windows, cuts it to a norm, and moves what is trained by AdamW. All sums have
// a fixed order: the same run gives the same bits with any number of threads, and interrupted and resumed at any place.
//
// Memory beside the models, with N parameters, M tokens of a part and T the positions that go through a layer at once (those of the
// longest window, or of several up to [Together] in all, unless masks or relations look at each):
//
//	gradients and moments      12N bytes (LoRA: 12 for each value of the adapters, 4 for each weight of a block that has them), 16N where
//	                           the host cannot address the device's memory; 4N more for the best parameters. A device with a memory of
//	                           its own that trains also holds matrices and their moments there, 12 bytes a value, as far as it has room
//	states at block boundaries 4*M*D*(L+1) bytes, beyond MemLimit on disk
//	activations                Keep bytes at the most
//	a block                    what [nn.Block.Backward] says for T positions, and 8*T*D bytes
//	the head                   4*R*(2D + V) bytes for R = 128 to 1024 rows at a time
//	a teacher of width D'      a block and its activations for T positions; 4*M*D' bytes of states; 4*M*D' for each of its layers whose
//	                           output is compared, 4*M*(HK + 2GK) for each whose relations are; 4*R*V bytes of logits
type Trainer struct {
	// Model is the student. Its source is Params, or LoRA, where these are trained.
	Model *nn.Model
	// Params are trained, or LoRA are; with neither, weights are frozen and only masks learn, and Model may read from any source.
	Params *Params
	LoRA   *LoRA
	Masks  Masks // nil for none

	Objective Objective
	Options   Options
	Data      calib.Windows // what is trained on
	Heldout   calib.Windows // what is evaluated on
	// Origin says what else the run follows from, such as digests of the model and of the teacher: a checkpoint of a run with another
	// one is refused.
	Origin []byte

	ready     bool
	released  bool
	student   *nn.Model // Model, as far up as the objective looks
	sink      sink      // nil where weights are frozen
	optimizer *Optimizer
	order     *Order
	data      *dataset
	heldout   *dataset
	teacher   *teacher
	part      *part
	state     runState
	digest    [32]byte  // of the setting
	numbers   []float64 // of state, in a checkpoint
	best      []*Param  // those of the best evaluation, where they are kept
}

// runState is how far a run is, beside what it trains.
type runState struct {
	step      int64 // steps done
	tokens    int64 // tokens seen
	evaluated int64 // the step after which there was an evaluation last, -1 for none
	saved     int64 // and a checkpoint
	judged    int64 // evaluated, as the checkpoint has it
	first     float64
	stop      EarlyStop
}

// dataset is windows and where their rows lie in a file of a teacher's predictions.
type dataset struct {
	ids  [][]int32
	row  []int64
	topK TopKRows
}

func newDataset(w calib.Windows, top TopKRows) *dataset {
	d := &dataset{ids: w.IDs, topK: top}
	at := int64(0)
	for _, ids := range w.IDs {
		d.row = append(d.row, at)
		at += int64(len(ids))
	}
	return d
}

// prepare checks what the run is made of and takes the memory that it needs.
func (t *Trainer) prepare() error {
	if t.released {
		return errors.New("distill: training: the run was released")
	}
	if t.ready {
		return nil
	}
	if err := errors.Join(t.Options.check(), t.check(), t.Objective.check(t.Model)); err != nil {
		return err
	}
	t.data, t.heldout = newDataset(t.Data, t.Objective.TopK), newDataset(t.Heldout, t.Objective.HeldoutTopK)
	t.student = shortened(t.Model, t.Objective.top(t.Model.Arch))
	t.teacher = newTeacher(&t.Objective, t.Options.Dir, t.Options.MemLimit)
	t.part = &part{Trainer: t}
	t.state = runState{evaluated: -1, judged: -1, stop: EarlyStop{Patience: t.Options.Patience, Margin: t.Options.Margin}}
	var err error
	if t.order, err = t.newOrder(); err == nil {
		err = t.trainable()
	}
	t.digest = RunDigest(t.setting(), t.Origin)
	t.ready = err == nil
	return err
}

func (t *Trainer) newOrder() (*Order, error) {
	if t.Options.InOrder {
		return InOrder(len(t.Data.IDs))
	}
	return NewOrder(len(t.Data.IDs), t.Options.Seed)
}

// check refuses parts that do not belong together.
func (t *Trainer) check() error {
	switch {
	case t.Model == nil:
		return errors.New("distill: training: no model")
	case t.Params != nil && t.LoRA != nil:
		return errors.New("distill: training: parameters and adapters at once")
	case t.Params != nil && t.Model.Src != t.Params, t.LoRA != nil && t.Model.Src != t.LoRA:
		return errors.New("distill: training: the model does not read what is trained")
	case t.Params == nil && t.LoRA == nil && t.Masks == nil:
		return errors.New("distill: training: nothing is trained")
	case t.Masks != nil && (t.Options.Patience > 0 || t.Options.KeepBest):
		return errors.New("distill: training: masks change what a loss is worth, and end by no evaluation")
	case t.Options.Evaluate > 0 && len(t.Heldout.IDs) == 0:
		return errors.New("distill: training: evaluations without held-out windows")
	case t.Options.Evaluate > 0 && t.Objective.unpredicted():
		return errUnpredicted
	case t.Model.Kept != nil && t.Masks != nil:
		return errors.New("distill: training: masks, and channels that are masked already")
	}
	return errors.Join(t.checkWindows("window", t.Data), t.checkWindows("held-out window", t.Heldout))
}

func (t *Trainer) checkWindows(what string, w calib.Windows) error {
	a := t.Model.Arch
	for i, ids := range w.IDs {
		if len(ids) < 2 || a.PosEmbed != "" && len(ids) > a.MaxPosition {
			return fmt.Errorf("distill: training: %s %d has %d tokens, from 2 to %d are possible", what, i, len(ids), a.MaxPosition)
		}
		for _, id := range ids {
			if id < 0 || int(id) >= a.V {
				return fmt.Errorf("distill: training: %s %d: token %d lies outside the vocabulary of %d", what, i, id, a.V)
			}
		}
	}
	return nil
}

// trainable makes gradients, moments and the copy of the best parameters.
func (t *Trainer) trainable() (err error) {
	var params []*Param
	switch {
	case t.Params != nil:
		params = t.Params.List()
		t.sink, err = newFullSink(t.student, t.Params, t.Objective.logits(), t.Objective.reaches())
	case t.LoRA != nil:
		params = t.LoRA.List()
		t.sink, err = newLoRASink(t.student, t.LoRA, t.Objective.reaches())
	}
	if err != nil {
		return err
	}
	params = append(params[:len(params):len(params)], t.Objective.params()...)
	for _, q := range params {
		if !t.Options.KeepBest {
			break
		}
		c := *q
		c.alloc(q.Half != nil)
		t.best = append(t.best, &c)
	}
	if t.optimizer, err = NewOptimizer(params, t.Options.AdamW, t.Options.Seed); err == nil {
		t.settle()
	}
	return err
}

// settle moves what a device trains by itself to its memory, as far as there is more than passes need.
func (t *Trainer) settle() {
	s, ok := t.sink.(*fullSink)
	if !ok || !s.trains {
		return
	}
	rows := max(Together, t.Data.Longest(), t.Heldout.Longest())
	room := t.student.Spare(rows, true) - t.Options.Keep
	if t.teacher.model != nil {
		room -= t.teacher.model.Reserve(rows, false)
	}
	t.optimizer.settle(t.Model.Dev, s.bufs, room)
}

// Release gives the memory on the device back that the run has taken, but for that of its models: what is trained is on the host then. The
// run cannot go on after it.
func (t *Trainer) Release() {
	t.released = true
	if t.optimizer != nil {
		t.optimizer.leave()
	}
	if t.sink != nil {
		t.sink.free()
		t.sink = nil
	}
	if t.student != nil && t.student != t.Model {
		t.student.Release()
	}
	if t.teacher != nil && t.teacher.model != nil && t.teacher.model != t.Objective.Teacher {
		t.teacher.model.Release()
	}
}

// shortened returns m with its first layers only; m itself where that are all.
func shortened(m *nn.Model, layers int) *nn.Model {
	if layers == len(m.Arch.Layers) {
		return m
	}
	a := *m.Arch
	a.Layers = append([]arch.Layer(nil), m.Arch.Layers[:layers]...)
	short := nn.New(m.Dev, m.Src, &a)
	short.Kept = m.Kept
	return short
}

// Train goes through the steps that are left. It ends early where the held-out loss does not fall any more, with the error of ctx
// where that ends, after which Train may be called again, and with [Diverged].
func (t *Trainer) Train(ctx context.Context) error {
	err := t.TrainTo(ctx, t.Options.Schedule.Steps)
	if err == nil {
		t.restoreBest()
	}
	return err
}

// TrainTo is Train up to the end of a step, the first that is done being 1: what is trained may then be looked at, and masks settled,
// before Train goes on.
func (t *Trainer) TrainTo(ctx context.Context, step int) error {
	if err := t.prepare(); err != nil {
		return err
	}
	err := t.train(ctx, int64(step))
	if err == nil && t.Done() || ctx.Err() != nil {
		err = errors.Join(err, t.save(true))
	}
	return errors.Join(err, t.teacher.close())
}

func (t *Trainer) train(ctx context.Context, end int64) error {
	for {
		if err := t.save(false); err != nil {
			return err
		}
		if err := t.evaluateDue(ctx); err != nil {
			return err
		}
		if t.Done() || t.state.step >= end {
			return nil
		}
		r, err := t.Step(ctx)
		if err != nil {
			return err
		}
		if t.Options.Progress != nil {
			t.Options.Progress(r)
		}
	}
}

// Done reports whether the run is at its end.
func (t *Trainer) Done() bool {
	s := &t.state
	return t.ready && (s.step >= int64(t.Options.Schedule.Steps) || s.stop.Patience > 0 && s.stop.Worse >= s.stop.Patience)
}

// Steps returns the number of steps done.
func (t *Trainer) Steps() int { return int(t.state.step) }

// save writes a checkpoint where one is due, or has to be.
func (t *Trainer) save(now bool) error {
	s, every := &t.state, int64(t.Options.SaveEvery)
	due := every > 0 && s.step%every == 0 && s.saved != s.step
	if now {
		due = s.saved != s.step || s.judged != s.evaluated
	}
	if t.Options.Save == nil || !due {
		return nil
	}
	state, err := t.State()
	if err == nil {
		err = t.Options.Save(state)
	}
	if err != nil {
		return fmt.Errorf("distill: checkpoint after step %d: %w", s.step, err)
	}
	s.saved, s.judged = s.step, s.evaluated
	return nil
}
