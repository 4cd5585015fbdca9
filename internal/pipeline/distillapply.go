package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"modelpress/calib"
	"modelpress/distill"
	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/safetensors"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

const (
	partDistill = "distill"
	trainState  = "train.state" // in the work directory: what an interrupted training goes on from
	topKSuffix  = ".topk"       // of files of the teacher's predictions
	trainedDir  = "trained"     // and what it ends with
	trainedName = "model.safetensors"
)

// distill trains the student into the work directory, as one journalled part, and gives the steps that follow its weights. An
// interrupted training goes on from its last saved state, with the same bytes in the end.
//
// Peak memory: see trainMemory.
func (a *applier) distill(ctx context.Context) error {
	if a.di == nil {
		return nil
	}
	err := a.trainedPart(ctx, partDistill, trainedDir, a.late, func() error { return a.train(ctx) })
	if err != nil {
		return err
	}
	return errors.Join(a.dropTopK(), removeIfThere(filepath.Join(a.work, trainState)))
}

// trainedPart does a journalled part that leaves trained weights in a directory, unless an earlier run did, and binds them.
func (a *applier) trainedPart(ctx context.Context, part, dir string, late *lateSource, train func() error) error {
	path := filepath.Join(a.work, dir, trainedName)
	e, done := a.journal.done[part]
	if !done {
		if err := train(); err != nil {
			return err
		}
	}
	sum, _, err := hashFile(ctx, path)
	if err != nil && (!done || ctx.Err() != nil) {
		return err
	}
	if done && sum != e.Trained { // "" where it does not open
		return errKind(KindGate, "remove the .partial directory and apply again", "the trained weights of an earlier run are damaged")
	}
	if !done {
		// What was computed from files that changed meanwhile must not be taken over by a later run.
		err := formats.SyncDir(a.work)
		if err == nil {
			err = a.unchanged()
		}
		if err == nil {
			err = a.journal.add(journalEntry{Part: part, Trained: sum})
		}
		if err != nil {
			return err
		}
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	a.opened = append(a.opened, f)
	late.trained = f
	return nil
}

// unchanged fails where a checkpoint that is read from is not what it was.
func (a *applier) unchanged() error {
	err := a.s.ck.CheckUnchanged()
	if a.teacher != nil && a.teacher != a.s {
		err = errors.Join(err, a.teacher.ck.CheckUnchanged())
	}
	return err
}

// useTrained has the steps after training see its weights.
func (a *applier) useTrained() (err error) {
	if a.late != nil || a.joint != nil {
		a.view, a.viewed, err = a.w.rotated(a.q, a.o.Env.Device)
	}
	return err
}

// train runs the training and writes what it leaves.
func (a *applier) train(ctx context.Context) error {
	newParams := distill.NewParams
	if a.recipe.Distill.Master == "bf16" {
		newParams = distill.NewHalfParams
	}
	params, err := newParams(a.t.dense, a.t.arch)
	if err != nil {
		return err
	}
	t, err := a.trainer(params)
	if err != nil {
		return err
	}
	defer releaseTrainer(t)
	if err := a.topK(ctx, t); err != nil {
		return err
	}
	p := a.o.Env.Progress
	t.Options.Progress = trainProgress(p)
	state := filepath.Join(a.work, trainState)
	t.Options.SaveEvery = a.recipe.Distill.SaveEvery
	t.Options.Save = func(s *distill.State) error {
		if err := a.unchanged(); err != nil {
			return err
		}
		return distill.WriteState(state, s)
	}
	if _, err := os.Stat(state); err == nil {
		if err := t.Resume(state); err != nil {
			return &Error{Kind: KindGate, Err: err, Hint: "remove the .partial directory and apply again"}
		}
	}
	startUnits(p, "training", "tokens", a.di.Tokens)
	p.Add(a.di.Tokens * int64(t.Steps()) / int64(a.recipe.Distill.Steps))
	err = t.Train(ctx)
	p.Done()
	if err = errors.Join(err, a.teacher.ck.CheckUnchanged()); err != nil {
		return diverged(err, "distill.rate")
	}
	t.Release()
	if t.LoRA != nil {
		t.LoRA.Merge()
	}
	view, err := params.View(a.t.dense, a.t.arch)
	if err != nil {
		return err
	}
	return a.writeTrained(ctx, trainedDir, view, a.t.arch)
}

// releaseTrainer gives the memory of a run and of its models on the device back.
func releaseTrainer(t *distill.Trainer) {
	t.Release()
	t.Model.Release()
	if t.Objective.Teacher != nil {
		t.Objective.Teacher.Release()
	}
}

// trainer sets a run up.
func (a *applier) trainer(params *distill.Params) (*distill.Trainer, error) {
	d, dev := a.recipe.Distill, a.o.Env.Device
	o, err := d.options(a.recipe.Seed)
	if err != nil {
		return nil, err
	}
	o.Dir, o.MemLimit, o.Keep = a.work, a.o.Env.stateLimit(), a.o.Env.stateLimit()
	t := &distill.Trainer{Model: nn.New(dev, params, params.Arch), Params: params, Options: o, Data: a.set.learn, Heldout: a.set.set.Heldout,
		Origin: []byte(a.plan.PlanID)}
	if d.LoRA != nil {
		if t.LoRA, err = distill.NewLoRA(params, d.LoRA.options(a.recipe.Seed)); err != nil {
			return nil, err
		}
		t.Params, t.Model = nil, nn.New(dev, t.LoRA, params.Arch)
	}
	t.Objective, err = d.objective(a.t.arch, a.teacher.arch, a.teacher.model(dev), a.recipe.Seed)
	return t, err
}

// topK writes what the teacher predicts of all windows to files, where the recipe keeps only the likeliest tokens, and has the run read
// from there. Files that an interrupted run has finished are taken over.
func (a *applier) topK(ctx context.Context, t *distill.Trainer) error {
	d := a.recipe.Distill
	if d.TopK == 0 || d.Logits == 0 {
		return nil
	}
	for _, side := range []struct {
		name string
		w    calib.Windows
		into *distill.TopKRows
	}{{"train", t.Data, &t.Objective.TopK}, {"heldout", t.Heldout, &t.Objective.HeldoutTopK}} {
		if len(side.w.IDs) == 0 || side.name == "heldout" && d.EvalEvery == 0 {
			continue
		}
		f, err := a.predictions(ctx, filepath.Join(a.work, side.name+topKSuffix), side.w)
		if err != nil {
			return err
		}
		a.topKFiles = append(a.topKFiles, f)
		*side.into = f
	}
	return nil
}

func (a *applier) predictions(ctx context.Context, path string, w calib.Windows) (*distill.TopKFile, error) {
	d := a.recipe.Distill
	run := sha256.Sum256(fmt.Appendf(nil, "%s %s %d %g", a.plan.PlanID, w.Digest, d.TopK, d.Temperature))
	if f, err := distill.OpenTopK(path); err == nil && f.Header.Run == run {
		return f, nil
	} else if err == nil {
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	tick, stop := counter(a.o.Env.Progress, "predictions of the teacher")
	defer stop()
	teacher := a.o.Env.model(a.teacher)
	defer teacher.Release()
	err := distill.CacheTopK(ctx, path, teacher, w, distill.TopKOptions{K: d.TopK, Temperature: d.Temperature, Run: run, Dir: a.work,
		MemLimit: a.o.Env.stateLimit(), Progress: tick})
	if err != nil {
		return nil, err
	}
	return distill.OpenTopK(path)
}

// dropTopK closes and removes the files of the teacher's predictions.
func (a *applier) dropTopK() error {
	var errs []error
	for _, f := range a.topKFiles {
		errs = append(errs, f.Close())
	}
	a.topKFiles = nil
	for _, side := range []string{"train", "heldout"} {
		errs = append(errs, removeIfThere(filepath.Join(a.work, side+topKSuffix)))
	}
	return errors.Join(errs...)
}

// checkTraining opens the teacher and makes the decision once more, which needs the data.
func (a *applier) checkTraining(ctx context.Context) (err error) {
	if a.di == nil {
		return nil
	}
	if a.teacher, err = a.openTeacher(ctx); err != nil {
		return err
	}
	want := &distillDecision{Teacher: a.di.Teacher}
	if err := want.fill(a.recipe.Distill, a.t, a.teacher, a.set, a.o.Env.Device); err != nil {
		return &Error{Kind: KindStale, Err: fmt.Errorf("plan: %w", err), Hint: "plan again with this build"}
	}
	if !sameJSON(want, a.di) {
		return errKind(KindStale, "plan again with this build", "plan: the decision of step %s does not follow from the settings, the model and the data", stepDistill)
	}
	return nil
}

// openTeacher opens the teacher that was planned with: the source, or the one that its digests name.
func (a *applier) openTeacher(ctx context.Context) (*source, error) {
	if a.di.Teacher == nil {
		if a.o.Data.Teacher != "" {
			return nil, errKind(KindUsage, "leave it out", "a teacher is given, and the plan was made with the model itself as teacher")
		}
		return a.s, nil
	}
	if a.o.Data.Teacher == "" {
		return nil, errKind(KindUsage, "give the teacher that the plan was made with: --teacher DIR", "this plan needs its teacher")
	}
	t, err := openTeacher(a.s, a.o.Data, a.o.AllowRemoteCode)
	if err != nil {
		return nil, err
	}
	digests, err := digest(ctx, t.ck, a.o.Env, "reading the teacher")
	if err == nil && (hf.WeightsDigest(digests) != a.di.Teacher.Weights || hf.HeadersDigest(t.ck.Tensors()) != a.di.Teacher.Headers) {
		err = errKind(KindStale, "give the teacher that the plan was made with, or plan again", "the teacher is not the one that the plan was made with")
	}
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// writeTrained writes every tensor of the trained model as F32 into one file, a piece at a time.
func (a *applier) writeTrained(ctx context.Context, name string, view formats.Source, m *arch.Model) error {
	var list []formats.TensorInfo
	for _, p := range m.Parameters() {
		t, ok := view.Lookup(p.Name)
		if !ok {
			return formats.Errorf("model", p.Name, "pipeline: a trained tensor is missing")
		}
		list = append(list, t)
	}
	layout, err := safetensors.PlanLayout(list, math.MaxInt64/2)
	if err != nil {
		return err
	}
	dir := filepath.Join(a.work, name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return fmt.Errorf("pipeline: %w", formats.NoSpace(err))
	}
	w, err := safetensors.Create(dir, layout, nil)
	if err != nil {
		return err
	}
	s := newSink(w)
	for _, t := range list {
		if err = ctx.Err(); err == nil {
			err = s.copy(view, outTensor{TensorInfo: t, from: t.Name})
		}
		if err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return errors.Join(w.Sync(), w.Close())
}

// trainProgress shows how far a run is.
func trainProgress(p Progress) func(distill.Report) {
	last := int64(-1)
	return func(r distill.Report) {
		note(p, fmt.Sprintf("step %d of %d, loss %.4f", r.Step, r.Steps, r.Loss))
		if last < 0 {
			last = r.Tokens / int64(r.Step) * int64(r.Step-1)
		}
		p.Add(r.Tokens - last)
		last = r.Tokens
	}
}
