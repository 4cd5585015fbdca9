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
	"modelpress/prune/importance"
	"modelpress/prune/vib"
)

// learnt is what training of masks has come to.
type learnt struct {
	cut   *prune.Cut
	notes []string
	// weights are those that were trained along with the masks, for the source's own names; nil where they were frozen.
	weights formats.Source
}

// learn trains masks: a search in which units are noisy, the choice of those that stay, and the training of the multipliers of these.
// Where state is not "" an interrupted run goes on from that file, with the same result; who uses the result removes it.
func (j *pruneJob) learn(ctx context.Context, state string) (*learnt, error) {
	v := j.r.Prune.VIB
	out, o := &learnt{}, j.maskOptions()
	var err error
	if j.r.Prune.Layout == layoutPortable {
		if o.Counts, out.notes, err = j.shapeCounts(ctx); err != nil {
			return nil, unmet(err)
		}
	}
	masks, err := vib.New(j.s.arch, o)
	if err != nil {
		return nil, unmet(err)
	}
	t, params, err := j.maskTrainer(masks)
	if err != nil {
		return nil, err
	}
	defer releaseTrainer(t)
	if state != "" {
		t.Options.SaveEvery = max(1, v.Steps/20)
		t.Options.Save = func(s *distill.State) error {
			if err := j.s.ck.CheckUnchanged(); err != nil {
				return err
			}
			return distill.WriteState(state, s)
		}
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
		return nil, errors.Join(diverged(err, v.rates()), j.forget(err, state))
	}
	if !masks.Settled() {
		if err := settle(masks, o.Counts); err != nil {
			return nil, unmet(err)
		}
	}
	if err := t.Train(ctx); err != nil {
		return nil, errors.Join(diverged(err, v.rates()), j.forget(err, state))
	}
	out.cut = masks.Cut()
	if params != nil {
		if out.weights, err = params.View(j.s.dense, j.s.arch); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// rates names the fields of the rates that a run may diverge by.
func (v *VIB) rates() string {
	if v.Joint {
		return "prune.vib.rate or joint_rate"
	}
	return "prune.vib.rate"
}

// forget removes the state of a run that has diverged: the same one would diverge again.
func (j *pruneJob) forget(err error, state string) error {
	var bad *distill.Diverged
	if !errors.As(err, &bad) {
		return nil
	}
	return removeIfThere(state)
}

// search is the number of steps before units are chosen.
func (v *VIB) search() int { return v.Steps - int(float64(v.Steps)*v.Settle) }

func (j *pruneJob) maskOptions() vib.Options {
	r := j.r.Prune
	v := r.VIB
	o := vib.Default(r.goal(), r.rules())
	o.Seed, o.Search, o.Tune, o.Prior.All = j.r.Seed, v.search(), v.Steps-v.search(), v.KL
	scale := v.Rate / o.Rates.Mu // one rate stands for all
	o.Rates.Mu, o.Rates.LogD, o.Rates.Tune = v.Rate, o.Rates.LogD*scale, o.Rates.Tune*scale
	return o
}

// maskTrainer sets the run up. The parameters are nil where weights are frozen.
func (j *pruneJob) maskTrainer(masks *vib.Masks) (*distill.Trainer, *distill.Params, error) {
	v, dev := j.r.Prune.VIB, j.env.Device
	t := &distill.Trainer{Model: j.s.model(dev), Masks: masks, Data: j.set.learn, Origin: j.origin}
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

// settle chooses the units that stay: as many as were searched for, or as the masks want in each layer.
func settle(masks *vib.Masks, counts *prune.Counts) error {
	if counts != nil {
		return masks.Settle(counts)
	}
	_, err := masks.Compact()
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

// shapeCounts chooses, before masks are learnt for one shape of all layers, that shape: of those that meet the target the one that loses
// least on calibration data when it is cut by what activations say of units.
func (j *pruneJob) shapeCounts(ctx context.Context) (*prune.Counts, []string, error) {
	m := j.env.model(j.s)
	defer m.Release()
	opt, stop := j.options("measuring units")
	scores, err := importance.Score(ctx, m, j.set.set.Calib, importance.Config{Options: opt, Method: importance.ByActivations, Depth: j.r.Prune.depth()})
	stop()
	if err != nil {
		return nil, nil, err
	}
	judged, notes, err := j.judge(ctx, m, scores)
	if err != nil {
		return nil, nil, err
	}
	counts, err := judged[0].Shape.Counts(m.Arch, scores)
	return counts, notes, err
}
