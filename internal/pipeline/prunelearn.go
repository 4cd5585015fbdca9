package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"

	"modelpress/distill"
	"modelpress/formats"
	"modelpress/internal/nn"
	"modelpress/prune"
	"modelpress/prune/vib"
)

// shapeWindows is how many calibration windows shapes are compared on.
const shapeWindows = 32

// learnt is what training of masks has come to.
type learnt struct {
	cut   *prune.Cut
	notes []string
	// weights are those that were trained along with the masks, for the source's own names; nil where they were frozen.
	weights formats.Source
}

// learn trains masks: a search in which units are noisy, the choice of those that stay, and the training of the multipliers of these.
// Where state is not "" an interrupted run goes on from that file, with the same result.
func (j *pruneJob) learn(ctx context.Context, state string) (*learnt, error) {
	v := j.r.Prune.VIB
	masks, err := vib.New(j.s.arch, j.maskOptions())
	if err != nil {
		return nil, err
	}
	t, params, err := j.maskTrainer(masks)
	if err != nil {
		return nil, err
	}
	if state != "" {
		t.Options.SaveEvery = max(1, v.Steps/20)
		t.Options.Save = func(s *distill.State) error { return distill.WriteState(state, s) }
		if _, err := os.Stat(state); err == nil {
			if err := t.Resume(state); err != nil {
				return nil, &Error{Kind: KindStale, Err: err, Hint: "remove " + state + " to start anew, or go on with the recipe, model and data that it is from"}
			}
		}
	}
	p := j.env.Progress
	p.Start("learning masks", int64(v.Steps))
	p.Add(int64(t.Steps()))
	defer p.Done()
	t.Options.Progress = func(r distill.Report) {
		note(p, fmt.Sprintf("loss %.4f", r.Loss))
		p.Add(1)
	}
	if err := t.TrainTo(ctx, v.search()); err != nil {
		return nil, diverged(err, "prune.vib.rate")
	}
	if !masks.Settled() {
		if err := j.settle(ctx, masks, t); err != nil {
			return nil, err
		}
	}
	if err := t.Train(ctx); err != nil {
		return nil, diverged(err, "prune.vib.rate")
	}
	out := &learnt{cut: masks.Cut()}
	if params != nil {
		if out.weights, err = params.View(j.s.dense, j.s.arch); err != nil {
			return nil, err
		}
	}
	if state != "" {
		return out, removeIfThere(state)
	}
	return out, nil
}

// search is the number of steps before units are chosen.
func (v *VIB) search() int { return v.Steps - int(float64(v.Steps)*v.Settle) }

func (j *pruneJob) maskOptions() vib.Options {
	r := j.r.Prune
	v := r.VIB
	o := vib.DefaultOptions(r.goal(), r.rules(), v.search(), v.Steps-v.search())
	o.Seed = j.r.Seed
	o.Prior.All = v.KL
	if v.Rate > 0 {
		o.Rates = o.Rates.Scaled(v.Rate)
	}
	return o
}

// maskTrainer sets the run up. The parameters are nil where weights are frozen.
func (j *pruneJob) maskTrainer(masks *vib.Masks) (*distill.Trainer, *distill.Params, error) {
	v, dev := j.r.Prune.VIB, j.env.Device
	// Shapes are compared on calibration windows, which Trainer.Evaluate knows as held-out ones.
	look := j.set.set.Calib
	t := &distill.Trainer{Model: j.s.model(dev), Masks: masks, Data: j.set.learn, Heldout: look.Slice(0, min(len(look.IDs), shapeWindows))}
	t.Options = distill.Options{Schedule: distill.Schedule{Steps: v.Steps, LR: 1}, Batch: v.Batch, Seed: j.r.Seed, Dir: j.env.Scratch, MemLimit: j.env.stateLimit()}
	t.Objective = distill.Objective{CE: 1}
	if v.Loss == lossKL {
		t.Objective = distill.Objective{KL: 1, Teacher: j.s.model(dev)}
	}
	if !v.Joint {
		return t, nil, nil
	}
	params, err := distill.NewParams(j.s.dense, j.s.arch)
	if err != nil {
		return nil, nil, err
	}
	t.Params, t.Model = params, nn.New(dev, params, params.Arch)
	t.Options.Schedule = distill.Schedule{Steps: v.Steps, Warmup: v.Steps / 20, LR: v.JointRate, Decay: distill.Cosine, Floor: 0.1}
	t.Options.Clip = 1
	return t, params, nil
}

// settle chooses the units that stay.
func (j *pruneJob) settle(ctx context.Context, masks *vib.Masks, t *distill.Trainer) error {
	if j.r.Prune.Layout == layoutCompact {
		_, err := masks.Compact()
		return err
	}
	_, err := masks.Portable(ctx, j.r.Prune.Candidates, func(ctx context.Context) (float64, error) {
		h, err := t.Evaluate(ctx)
		return h.Loss, err
	})
	return err
}

// diverged gives a run that has left the range where it learns its class and a hint.
func diverged(err error, field string) error {
	var bad *distill.Diverged
	if errors.As(err, &bad) {
		return &Error{Kind: KindGate, Err: err, Hint: "lower " + field + " and plan again"}
	}
	return err
}
