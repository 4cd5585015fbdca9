package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/formats/safetensors"
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
// Peak memory: see peakMemory. Disk: the output, and the boundary states of two layers, 8·D·Σ T_i bytes, where the plan
// quantizes with data.
func Apply(ctx context.Context, o ApplyOptions) (*ApplyResult, error) {
	a := &applier{o: o, plan: o.Plan}
	if err := a.decode(); err != nil {
		return nil, err
	}
	if err := a.checkPaths(); err != nil {
		return nil, err
	}
	if done, err := a.already(ctx); done || err != nil {
		return &ApplyResult{Already: done, Report: a.report}, err
	}
	var err error
	if a.s, err = openSource(o.ModelDir, o.AllowRemoteCode); err != nil {
		return nil, err
	}
	defer a.s.close()
	for _, f := range []func(context.Context) error{a.checkSource, a.loadData, a.prepare} {
		if err := f(ctx); err != nil {
			return nil, errors.Join(err, a.release())
		}
	}
	if err := a.run(ctx); err != nil {
		return nil, errors.Join(err, a.release())
	}
	return &ApplyResult{Resumed: a.resumed, Report: a.report}, nil
}

type applier struct {
	o       ApplyOptions
	plan    *planfile.Plan
	recipe  *Recipe
	q       *quantDecision
	h       *headsDecision
	s       *source
	set     *dataset
	dir     string // OUT.partial
	work    string // OUT.partial/work: lock, journal, boundary states
	lock    *os.File
	journal *journal
	writer  *safetensors.Writer
	outs    []outTensor
	resumed bool
	notes   []tensorNote
	report  *Report
}

// decode reads the decisions of the plan and checks that this build gives them the meaning that they were made with.
func (a *applier) decode() error {
	a.recipe = &Recipe{}
	if err := json.Unmarshal(a.plan.Recipe.Settings, a.recipe); err != nil {
		return errKind(KindStale, "plan again with this build", "plan: the recipe settings do not decode: %w", err)
	}
	if class := a.o.Env.Device.Class(); class != a.plan.DeviceClass {
		return errKind(KindStale, "apply on the same class of device, or plan again", "the plan was made for device class %s, this is %s", a.plan.DeviceClass, class)
	}
	for _, st := range a.plan.Steps {
		want, into := 0, any(nil)
		switch st.Name {
		case stepHeads:
			a.h = &headsDecision{}
			want, into = headsVersion, a.h
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
	a.work = filepath.Join(a.dir, "work")
	a.o.Out = out
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
		return true, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return false, errKind(KindExists, "choose another directory with -o, or remove it", "output %s exists and is not a whole result of this plan", filepath.Base(a.o.Out))
}

func (a *applier) checkSource(ctx context.Context) error {
	have, err := fingerprint(ctx, a.s, a.o.Env)
	if err != nil {
		return err
	}
	return checkDrift(a.plan.Source, have)
}

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
	return nil
}

// prepare takes the lock, opens the journal and lays out the shards.
func (a *applier) prepare(context.Context) error {
	if err := os.MkdirAll(a.work, 0o755); err != nil {
		return fmt.Errorf("pipeline: output: %w", formats.NoSpace(err))
	}
	var err error
	if a.lock, err = lockFile(filepath.Join(a.work, lockName)); err != nil {
		return err
	}
	if a.journal, err = openJournal(a.work, a.plan.PlanID); err != nil {
		return err
	}
	a.resumed = len(a.journal.done) > 1
	view, m, err := a.s.rotated(a.q)
	if err != nil {
		return err
	}
	if a.outs, err = planOutputs(a.s.ck, view, m, a.q); err != nil {
		return err
	}
	layout, err := safetensors.PlanLayout(tensorInfos(a.outs), a.recipe.Output.MaxShardBytes)
	if err != nil {
		return err
	}
	if a.writer, err = safetensors.Create(a.dir, layout, nil); err != nil {
		if errors.Is(err, formats.ErrNoSpace) {
			return &Error{Kind: KindResource, Err: err, Hint: fmt.Sprintf("make room for %d bytes", layout.TotalBytes())}
		}
		return err
	}
	return nil
}

// release gives back what prepare took; the partial output stays for the next run.
func (a *applier) release() error {
	var errs []error
	if a.writer != nil {
		errs = append(errs, a.writer.Close())
		a.writer = nil
	}
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
