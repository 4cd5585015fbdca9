package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"modelpress/distill"
	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/formats/safetensors"
	"modelpress/internal/arch"
	"modelpress/prune"
)

// ApplyOptions is what apply works from. Nothing here but the plan changes the result.
type ApplyOptions struct {
	Plan            *planfile.Plan
	PlanBytes       []byte // the plan file as it was read
	ModelDir        string
	Out             string
	Data            DataPaths
	AllowRemoteCode bool
	Strict          bool // a matrix that fell back fails the run
	Env             Env
}

// ApplyResult says what apply did.
type ApplyResult struct {
	Already bool // the output existed with this plan id and good digests
	Resumed bool // parts of an interrupted run were taken over
	Report  *Report
}

// Apply carries a plan out. It refuses drift of the source before anything is written, works in OUT.partial with a
// journal, continues an interrupted run, verifies what it wrote, and commits by one rename.
//
// Peak memory: see peakMemory. Disk: the output, and scratchBytes where blocks are changed with data.
func Apply(ctx context.Context, o ApplyOptions) (*ApplyResult, error) {
	a := &applier{o: o, plan: o.Plan}
	if err := a.decode(); err != nil {
		return nil, err
	}
	if err := a.checkPaths(); err != nil {
		return nil, err
	}
	if done, err := a.already(ctx); done || err != nil {
		return a.result(done, err)
	}
	var err error
	if a.s, err = openSource(o.ModelDir, o.AllowRemoteCode); err != nil {
		return nil, err
	}
	defer a.close()
	if a.s, err = a.s.changeable(ctx, a.recipe, a.o.Env); err != nil {
		return nil, err
	}
	for _, f := range []func(context.Context) error{a.checkSource, a.checkDecisions, a.loadData, a.checkTraining, a.budget, a.layOut} {
		if err := guarded(func() error { return f(ctx) }); err != nil {
			return nil, err
		}
	}
	// A run that held the lock until now may have put the output in place.
	done, err := a.enterPartial(ctx)
	if err == nil && !done {
		err = a.prepare()
	}
	if err == nil && !done {
		err = guarded(func() error { return a.run(ctx) })
	}
	return a.result(done, errors.Join(err, a.release()))
}

// result is what Apply returns; done says that the output was there already.
func (a *applier) result(done bool, err error) (*ApplyResult, error) {
	if err != nil {
		return nil, err
	}
	if done && a.o.Strict && len(a.report.FellBack) > 0 {
		return nil, errKind(KindGate, "see its "+reportName+", change the recipe and plan again",
			"%s was applied without --strict: %d tensors fell back to %s", filepath.Base(a.o.Out), len(a.report.FellBack), a.report.Plainer())
	}
	return &ApplyResult{Already: done, Resumed: a.resumed, Report: a.report}, nil
}

type applier struct {
	o          ApplyOptions
	plan       *planfile.Plan
	recipe     *Recipe
	pr         *pruneDecision
	cutChanges []prune.Change
	m          *mergeDecision
	di         *distillDecision
	sp         *sparsifyDecision
	q          *quantDecision
	h          *headsDecision
	s          *source
	teacher    *source             // what a student learns from, s itself unless another one is given; nil where nothing is distilled
	joint      *lateSource         // s with weights trained along with masks; nil where none are
	c          *source             // s once units are pruned
	t          *source             // c once its KV heads are merged
	w          *source             // t with trained weights; t itself where none are
	late       *lateSource         // what shows them; nil where none are
	opened     []*safetensors.File // trained weights
	topKFiles  []*distill.TopKFile // while training reads them
	set        *dataset
	dir        string // OUT.partial
	work       string // OUT.partial/work: lock, journal, boundary states
	lock       *os.File
	journal    *journal
	maps       []string // digests of the maps of merged layers, once all are merged
	writer     *safetensors.Writer
	view       formats.Source // what quantization works on; the weights are trained ones once there are some
	viewed     *arch.Model    // its description
	outs       []outTensor
	stored     *stored
	layout     safetensors.Layout
	resumed    bool
	notes      []tensorNote
	report     *Report
}

// decode reads the decisions of the plan and checks that this build gives them the meaning that they were made with.
func (a *applier) decode() error {
	a.recipe = &Recipe{}
	if err := json.Unmarshal(a.plan.Recipe.Settings, a.recipe); err != nil {
		return errKind(KindStale, "plan again with this build", "plan: the recipe settings do not decode: %w", err)
	}
	if class := a.o.Env.class(); class != a.plan.DeviceClass {
		return errKind(KindStale, "apply on the same class of device, or plan again", "the plan was made for device class %s, this is %s", a.plan.DeviceClass, class)
	}
	for _, st := range a.plan.Steps {
		want, into := 0, any(nil)
		switch st.Name {
		case stepPrune:
			a.pr = &pruneDecision{}
			want, into = pruneVersion, a.pr
		case stepDistill:
			a.di = &distillDecision{}
			want, into = distillVersion, a.di
		case stepMerge:
			a.m = &mergeDecision{}
			want, into = mergeVersion, a.m
		case stepHeads:
			a.h = &headsDecision{}
			want, into = headsVersion, a.h
		case stepSparsify:
			a.sp = &sparsifyDecision{}
			want, into = sparsifyVersion, a.sp
		case stepQuantize:
			a.q = &quantDecision{}
			want, into = quantizeVersion, a.q
		default:
			return errKind(KindStale, "plan again with this build", "plan: this build has no step %q", st.Name)
		}
		if st.Version != want {
			return errKind(KindStale, "plan again with this build", "plan: step %s has version %d, this build has %d", st.Name, st.Version, want)
		}
		if err := decodeDecision(st.Decision, into); err != nil {
			return err
		}
	}
	return nil
}

// checkPaths refuses an output that is the model or lies inside of it.
func (a *applier) checkPaths() error {
	model, err := realPath(a.o.ModelDir)
	if err != nil {
		return formats.Errorf(filepath.Base(a.o.ModelDir), "", "%w", err)
	}
	out, err := realPath(filepath.Dir(filepath.Clean(a.o.Out)))
	if err != nil {
		return errKind(KindUsage, "create its parent directory first", "output: %w", err)
	}
	out = filepath.Join(out, filepath.Base(filepath.Clean(a.o.Out)))
	if out == model || strings.HasPrefix(out, model+string(filepath.Separator)) {
		return errKind(KindUsage, "choose another directory with -o", "the output lies inside of the model's directory")
	}
	a.dir = out + partialSuffix
	a.work = filepath.Join(a.dir, workDir)
	a.o.Out = out
	if fi, err := os.Lstat(a.dir); err == nil && !fi.IsDir() {
		return errKind(KindExists, "remove it, or choose another directory with -o", "%s is there and is no directory", filepath.Base(a.dir))
	}
	return nil
}

func realPath(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// already reports whether the output is there, made by this very plan, and whole.
func (a *applier) already(ctx context.Context) (bool, error) {
	if _, err := os.Lstat(a.o.Out); errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("pipeline: output: %w", err)
	}
	v, err := Verify(ctx, a.o.Out, a.o.Env)
	if err == nil && len(v.Faults) == 0 && v.Report.PlanID == a.plan.PlanID {
		a.report = v.Report
		return true, os.RemoveAll(filepath.Join(a.o.Out, workDir)) // left by a run that died right after its commit
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	why := "it does not verify"
	switch {
	case err != nil:
		why = err.Error()
	case v.Report.PlanID != a.plan.PlanID:
		why = "it was made by plan " + v.Report.PlanID
	case len(v.Faults) > 0:
		why = v.Faults[0]
	}
	return false, errKind(KindExists, "choose another directory with -o, or remove it", "output %s exists and is not a whole result of this plan: %s", filepath.Base(a.o.Out), why)
}

func (a *applier) checkSource(ctx context.Context) error {
	have, err := fingerprint(ctx, a.s, a.o.Env)
	if err != nil {
		return err
	}
	return checkDrift(a.plan.Source, have)
}

// mapsDigest is the digest that the journal has of the maps of layer l. It is read while the journal is written on.
func (a *applier) mapsDigest(l int) string { return a.maps[l] }

// needsData reports whether this plan computes on calibration data or judges by it.
func (a *applier) needsData() bool { return a.plan.Calibration != nil }

func (a *applier) loadData(ctx context.Context) error {
	if !a.needsData() {
		return nil
	}
	if a.o.Data.Calib == "" {
		return errKind(KindUsage, "give the calibration file that the plan was made with: --calib FILE", "this plan needs its calibration data")
	}
	var err error
	if a.set, err = loadData(ctx, a.s, a.recipe, a.o.Data); err != nil {
		return err
	}
	if a.set.set.Digest != a.plan.Calibration.Digest {
		return errKind(KindStale, "give the file that the plan was made with, or plan again",
			"the calibration data is not what the plan was made with: digest %s, planned %s", a.set.set.Digest, a.plan.Calibration.Digest)
	}
	if err := a.checkTrainingData(); err != nil {
		return err
	}
	if have := calibrationOf(a.set); !reflect.DeepEqual(have, a.plan.Calibration) {
		return errKind(KindStale, "plan again with this build", "this build makes other windows or prompts of the calibration data than the plan was made with")
	}
	return nil
}

// checkTrainingData compares what weights and masks are trained on with what the plan was made with.
func (a *applier) checkTrainingData() error {
	planned := ""
	for _, p := range a.plan.Calibration.Prompts {
		if p.Name == trainingText {
			planned = p.Digest
		}
	}
	switch {
	case planned == "" && a.o.Data.Train != "" && a.set.learn.Digest != a.set.set.Calib.Digest:
		return errKind(KindUsage, "leave it out", "training data is given, and the plan was made without")
	case planned != "" && a.o.Data.Train == "":
		return errKind(KindUsage, "give the training data that the plan was made with: --train FILE", "this plan needs its training data")
	case planned != "" && planned != a.set.learn.Digest:
		return errKind(KindStale, "give the training data that the plan was made with, or plan again", "the training data is not what the plan was made with")
	}
	return nil
}

// layOut works out every tensor and shard of the result and compares them with what the plan promises.
func (a *applier) layOut(context.Context) error {
	base := a.w
	if a.late != nil || a.joint != nil {
		base = a.w.blank()
	}
	var err error
	if a.view, a.viewed, err = base.rotated(a.q, a.o.Env.Device); err != nil {
		return err
	}
	a.stored = a.storedAs()
	if a.outs, err = planOutputs(a.stored, a.view, a.viewed, a.sp, a.q); err != nil {
		return err
	}
	if a.layout, err = safetensors.PlanLayout(tensorInfos(a.outs), a.recipe.Output.MaxShardBytes); err != nil {
		return err
	}
	have, want := outputLayout(a.layout, a.q, nil), a.plan.Output
	have.Files, want.Files = nil, nil
	if !reflect.DeepEqual(have, want) {
		return errKind(KindStale, "plan again with this build", "this build lays the output out otherwise than the plan says")
	}
	return nil
}

// enterPartial makes the partial output's directory and takes its lock. It reports whether the output is in place by now,
// made by another run of the same plan.
func (a *applier) enterPartial(ctx context.Context) (bool, error) {
	if err := a.checkOwn(); err != nil {
		return false, err
	}
	if err := os.MkdirAll(a.work, 0o755); err != nil {
		return false, fmt.Errorf("pipeline: output: %w", formats.NoSpace(err))
	}
	var err error
	if a.lock, err = lockFile(filepath.Join(a.work, lockName)); err != nil {
		return false, err
	}
	if _, err := os.Lstat(a.o.Out); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err := errors.Join(a.release(), a.removeEmpty()); err != nil {
		return false, err
	}
	return a.already(ctx)
}

// removeEmpty removes a partial output in which nothing was done yet.
func (a *applier) removeEmpty() error {
	list, err := os.ReadDir(a.work)
	if err != nil || len(list) > 1 {
		return err
	}
	return errors.Join(os.RemoveAll(a.work), os.Remove(a.dir))
}

// budget plans the run into the memory that it may take, or refuses.
func (a *applier) budget(context.Context) error {
	return a.o.Env.fit(func(states int64) int64 {
		return max(peakMemory(a.s, workOf(a.sp, a.q), a.set, states)+mergedViewBytes(a.s, a.recipe.KVMerge), mergeMemory(a.s, a.recipe.KVMerge, a.set, states),
			trainMemory(a.t, a.teacherOr(), a.recipe, a.set, states), a.jointMemory(states))
	})
}

// prepare opens the journal and creates the shards, or takes them over.
func (a *applier) prepare() error {
	var err error
	if a.journal, err = openJournal(a.work, a.plan.PlanID); err != nil {
		return err
	}
	a.resumed = len(a.journal.done) > 1
	a.o.Env.Scratch = a.work
	need, err := a.roomNeeded()
	if err != nil {
		return err
	}
	if err := formats.CheckSpace(a.work, need); err != nil {
		return &Error{Kind: KindResource, Err: fmt.Errorf("pipeline: output, states and trained weights: %w", err), Hint: fmt.Sprintf("make room for %d bytes", need)}
	}
	a.writer, err = safetensors.Create(a.dir, a.layout, nil)
	switch {
	case errors.Is(err, formats.ErrNoSpace):
		return &Error{Kind: KindResource, Err: err, Hint: fmt.Sprintf("make room for %d bytes", a.layout.TotalBytes()+a.plan.Estimate.Scratch)}
	case errors.Is(err, safetensors.ErrForeign):
		return &Error{Kind: KindExists, Err: err, Hint: "remove the .partial directory and apply again"}
	}
	return err
}

// roomNeeded is what the output and the working files take on disk, less what an interrupted run has left of them.
func (a *applier) roomNeeded() (int64, error) {
	need := a.plan.Estimate.Scratch + a.layout.TotalBytes()
	err := filepath.WalkDir(a.dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			need -= fi.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("pipeline: output: %w", err)
	}
	return max(need, 0), nil
}

// checkOwn refuses a directory in the place of the partial output that holds something and no journal: it is not ours.
func (a *applier) checkOwn() error {
	if fi, err := os.Stat(filepath.Join(a.work, journalName)); err == nil && fi.Size() > 0 {
		return nil
	}
	list, err := os.ReadDir(a.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pipeline: output: %w", err)
	}
	if len(list) > 1 || len(list) == 1 && list[0].Name() != workDir {
		return errKind(KindExists, "remove it, or choose another directory with -o", "%s holds files and no journal of an interrupted run", filepath.Base(a.dir))
	}
	return nil
}

// close closes what is read.
func (a *applier) close() {
	if a.teacher != nil && a.teacher != a.s {
		a.teacher.close()
	}
	a.s.close()
}

// release gives back what prepare took; the partial output stays for the next run.
func (a *applier) release() error {
	var errs []error
	if a.writer != nil {
		errs = append(errs, a.writer.Close())
		a.writer = nil
	}
	for _, f := range a.topKFiles {
		errs = append(errs, f.Close())
	}
	a.topKFiles = nil
	for _, f := range a.opened {
		errs = append(errs, f.Close())
	}
	a.opened = nil
	if a.journal != nil {
		errs = append(errs, a.journal.close())
		a.journal = nil
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
		a.lock = nil
	}
	return errors.Join(errs...)
}
