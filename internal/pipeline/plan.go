package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/planfile"
	"modelpress/formats/safetensors"
	"modelpress/internal/arch"
	"modelpress/prune"
)

// PlanOptions is what a plan is made from.
type PlanOptions struct {
	ModelDir        string
	Recipe          *Recipe
	RecipeDigest    string // of the recipe file
	Data            DataPaths
	AllowRemoteCode bool
	Tool            planfile.Tool
	Env             Env
	// Verdicts, if there, is told what the targets make of the result, once that is decided. The plan has what they refuse and notes.
	Verdicts func([]Verdict)
}

// Plan looks at a checkpoint, decides everything, and writes nothing. The rules of the targets are checked before any
// compute.
//
// Peak memory: the forward pass of one block (see nn.Block) or the output head's rows, plus the boundary states of the
// windows it looks at, 4·D·Σ T_i bytes (spilled to disk past a gigabyte), plus the tensor list.
func Plan(ctx context.Context, o PlanOptions) (*planfile.Plan, error) {
	s, err := openSource(o.ModelDir, o.AllowRemoteCode)
	if err != nil {
		return nil, err
	}
	defer s.close()
	for _, w := range append(s.ck.Warnings(), s.whole.Notes()...) {
		o.Env.warn("%s", w)
	}
	if s, err = s.changeable(ctx, o.Recipe, o.Env); err != nil {
		return nil, err
	}
	p := &planner{o: o, s: s, r: o.Recipe}
	var plan *planfile.Plan
	err = guarded(func() (err error) { plan, err = p.plan(ctx); return err })
	if err = errors.Join(err, p.drop()); err != nil {
		return nil, err
	}
	if err := s.ck.CheckUnchanged(); err != nil {
		return nil, err
	}
	return plan, removeIfThere(o.Env.maskState())
}

type planner struct {
	o          PlanOptions
	s          *source
	c          *source // the source once units are pruned; before that, in shapes that it may have
	t          *source // c once its KV heads are merged; before that, in the shapes that it will have as far as they are known
	r          *Recipe
	dir        string // of the maps of merged layers; "" for none
	vs         []violation
	pr         *pruneDecision
	cutChanges []prune.Change
	m          *mergeDecision
	di         *distillDecision
	teacher    *source // of its own; closed once it was looked at, and described from then on
	sp         *sparsifyDecision
	q          *quantDecision
	h          *headsDecision
	set        *dataset
	src        planfile.Source
	outs       []outTensor
	stored     *stored
	view       *arch.Model
}

func (p *planner) plan(ctx context.Context) (*planfile.Plan, error) {
	for _, f := range []func(context.Context) error{p.decide, p.data, p.foresee, p.budget, p.fingerprint, p.prune, p.merge, p.distill, p.heads} {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	return p.assemble()
}

// drop removes what planning kept on disk.
func (p *planner) drop() error {
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// decide makes the choices that need no compute, and refuses what would not load.
func (p *planner) decide(context.Context) error {
	if err := p.shape(); err != nil {
		return err
	}
	if err := p.mergedShapes(); err != nil {
		return err
	}
	if err := p.quantize(); err != nil {
		return err
	}
	if h := p.r.Heads; h != nil && h.BudgetLength > p.s.arch.MaxPosition {
		return errKind(KindUsage, "give the length that you serve, within the model's positions", "recipe: heads.budget_length %d: the model has %d positions",
			h.BudgetLength, p.s.arch.MaxPosition)
	}
	if err := p.checkCarried(); err != nil {
		return err
	}
	return p.layOut()
}

// quantize decides which matrices are quantized and how; again once it is known which layers there are.
func (p *planner) quantize() error {
	if p.r.Quantize == nil {
		return nil
	}
	store, err := p.s.storeDType()
	if err == nil {
		p.q, err = decideQuantize(p.c.arch, p.r, store)
	}
	return err
}

// mergedShapes describes the model in the shapes that merging KV heads leaves, as far as they are known.
func (p *planner) mergedShapes() error {
	p.t = p.c
	k := p.r.KVMerge
	if k == nil {
		return nil
	}
	shapes, err := k.shapes(p.c.arch)
	if err != nil {
		return err
	}
	p.t, err = p.c.merged(shapes, nil, nil)
	return err
}

// layOut checks the rules of the targets and lists the tensors of the result.
func (p *planner) layOut() error {
	if s := p.r.Sparsify; s != nil {
		var err error
		if p.sp, err = decideSparsify(p.t.arch, s); err != nil {
			return err
		}
	}
	p.vs = append(preflight(p.t.arch, p.r.Target, p.q), p.sp.rules(p.t.arch)...)
	// The uneven layers that stand for a budget's tell what their numbers may be no better than that they differ.
	if k := p.r.KVMerge; k != nil && (p.m != nil || k.KVBudget == nil) {
		p.vs = append(p.vs, mergedRules(p.c.arch, p.t.arch, p.r.Target, p.r.KVMerge)...)
	}
	if err := refusal(p.vs); err != nil {
		return err
	}
	view, m, err := p.t.rotated(p.q, p.o.Env.Device)
	if err != nil {
		return err
	}
	p.view = m
	p.stored = p.storedAs()
	p.outs, err = planOutputs(p.stored, view, m, p.sp, p.q)
	return err
}

// merge decides which KV heads share, and goes on with the model as it then is.
func (p *planner) merge(ctx context.Context) error {
	if p.r.KVMerge == nil {
		return nil
	}
	var err error
	if p.dir, err = os.MkdirTemp(p.o.Env.Scratch, "compress-kvmerge-"); err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	if n := scratchOfMaps(p.c, *p.r.KVMerge.Refit); n > 0 {
		if err := formats.CheckSpace(p.dir, n); err != nil {
			return &Error{Kind: KindResource, Err: fmt.Errorf("pipeline: maps of merged layers: %w", err), Hint: fmt.Sprintf("make room for %d bytes, or name another directory by TMPDIR", n)}
		}
	}
	j := &mergeJob{s: p.c, r: p.r, set: p.set, env: p.o.Env, dir: p.dir}
	if mergeScore(p.s, p.r) == scorePlan {
		if j.carried, err = p.carriedSource(); err != nil {
			return err
		}
	}
	if p.t, err = j.decide(ctx); err != nil {
		return err
	}
	p.m = j.d
	if err := p.layOut(); err != nil {
		return err
	}
	return j.judge(ctx, p.t)
}

// budget plans the run into the memory that it may take, or refuses.
func (p *planner) budget(context.Context) error {
	return p.o.Env.fit(func(states int64) int64 {
		return max(planMemory(p.s, p.set, states)+mergedViewBytes(p.s, p.r.KVMerge)+p.heldWeights(), mergeMemory(p.s, p.r.KVMerge, p.set, states)+p.heldWeights(), pruneMemory(p.s, p.r, p.set, states))
	})
}

func (p *planner) fingerprint(ctx context.Context) error {
	var err error
	p.src, err = fingerprint(ctx, p.s, p.o.Env)
	return err
}

// needsData reports whether any part of the plan looks at calibration data.
func (p *planner) needsData() bool {
	return p.r.Prune != nil || p.r.Distill != nil || p.r.KVMerge != nil || p.r.Heads != nil || workOf(p.sp, p.q).data || p.o.Data.Calib != "" || p.r.Gates != Gates{}
}

func (p *planner) data(ctx context.Context) error {
	if !p.needsData() {
		return nil
	}
	var err error
	p.set, err = loadData(ctx, p.s, p.r, p.o.Data)
	return err
}

func (p *planner) heads(ctx context.Context) error {
	d, err := p.digests()
	if err != nil {
		return err
	}
	if p.r.Heads == nil {
		m := p.o.Env.model(p.t)
		defer m.Release()
		return p.carry(ctx, m, d)
	}
	p.h, err = decideHeads(ctx, p.s, p.t, p.pr, p.m, p.r, p.set, p.o.Tool, d, p.o.Env)
	return err
}

// digests are those of the source.
func (p *planner) digests() (modelDigests, error) {
	config, err := configDigest(p.s.ck.Config())
	return modelDigests{weights: p.src.WeightsDigest, headers: p.src.HeadersDigest, config: config}, err
}

// assemble puts the plan together.
func (p *planner) assemble() (*planfile.Plan, error) {
	settings, err := json.Marshal(p.r)
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	layout, err := safetensors.PlanLayout(tensorInfos(p.outs), p.r.Output.MaxShardBytes)
	if err != nil {
		return nil, err
	}
	changes, err := changeRows(p.stored, p.outs, p.s.arch.Embed)
	if err != nil {
		return nil, err
	}
	plan := &planfile.Plan{
		Tool: p.o.Tool, DeviceClass: p.o.Env.class(), Source: p.src, Calibration: calibrationOf(p.set),
		Recipe:  planfile.Recipe{Digest: p.o.RecipeDigest, Settings: settings},
		Targets: targetRows(p.r.Target, p.vs, p.targetNotes()), Gates: gateRows(p.r.Gates),
		Estimate: p.estimate(), Changes: changes, Output: outputLayout(layout, p.q, p.outputFiles(len(layout.Shards))),
	}
	if err := p.addSteps(plan); err != nil {
		return nil, err
	}
	if _, err := planfile.Encode(plan); err != nil {
		return nil, err
	}
	return plan, p.verdicts()
}

// verdicts tells what the targets make of the result: its shapes and weights, the config.json that it will have, and the files that it
// takes over.
func (p *planner) verdicts() error {
	if p.o.Verdicts == nil {
		return nil
	}
	edits, err := p.s.configEdits(p.view, p.pr.layers(), p.q)
	if err != nil {
		return err
	}
	config, err := hf.EditConfig(p.s.ck.Config(), edits, nil)
	if err != nil {
		return err
	}
	c := planned(p.view, p.q)
	c.Config = config
	if p.s.whole.Quantized != nil { // whose weights are copied as they are stored
		if c, err = NewCandidate(p.view, config, p.s.dense, p.s.ck); err != nil {
			return err
		}
	}
	if err := c.beside(p.s); err != nil {
		return err
	}
	p.o.Verdicts(Verdicts(c, p.r.Target))
	return nil
}

func (p *planner) addSteps(plan *planfile.Plan) error {
	add := func(name string, version int, decision any, summary string, rows []planfile.Row) error {
		raw, err := json.Marshal(decision)
		if err != nil {
			return fmt.Errorf("pipeline: %w", err)
		}
		plan.Steps = append(plan.Steps, planfile.Step{Name: name, Version: version, Summary: summary, Rows: rows, Decision: raw})
		return nil
	}
	if p.pr != nil {
		if err := add(stepPrune, pruneVersion, p.pr, p.pr.summary(p.s.arch, p.c.arch), p.pr.rows(p.s.arch)); err != nil {
			return err
		}
	}
	if p.m != nil {
		if err := add(stepMerge, mergeVersion, p.m, p.m.summary(p.c.arch), p.m.rows(p.c.arch, p.t.arch)); err != nil {
			return err
		}
	}
	if p.di != nil {
		if err := add(stepDistill, distillVersion, p.di, p.di.summary(p.r.Distill), p.di.rows()); err != nil {
			return err
		}
	}
	if p.h != nil {
		if err := add(stepHeads, headsVersion, p.h, p.h.summary(), p.h.rows()); err != nil {
			return err
		}
	}
	if p.sp != nil {
		if err := add(stepSparsify, sparsifyVersion, p.sp, p.sp.summary(), p.sp.rows(plan, p.view)); err != nil {
			return err
		}
	}
	if p.q != nil {
		return add(stepQuantize, quantizeVersion, p.q, p.q.summary(), p.q.rows(plan))
	}
	return nil
}

// calibrationOf is what a plan says about the data that it was made with.
func calibrationOf(d *dataset) *planfile.Calibration {
	if d == nil {
		return nil
	}
	tokens := func(w calib.Windows) *planfile.TokenSet {
		if len(w.IDs) == 0 {
			return nil
		}
		return &planfile.TokenSet{Digest: w.Digest, Sequences: len(w.IDs), Length: w.Longest(), Tokens: int64(w.Tokens())}
	}
	return &planfile.Calibration{Digest: d.set.Digest, Calib: tokens(d.set.Calib), Heldout: tokens(d.set.Heldout),
		Prompts: d.promptSets()}
}

// estimate states what apply will need, by the formulas of its parts.
func (p *planner) estimate() planfile.Estimate {
	e := planfile.Estimate{PeakMemory: usualMemory(p.s, workOf(p.sp, p.q), p.set) + mergedViewBytes(p.s, p.r.KVMerge)}
	if workOf(p.sp, p.q).data {
		e.Scratch = scratchBytes(p.s.arch, int64(p.set.set.Calib.Tokens()))
	}
	if p.r.Prune.joint() {
		e.PeakMemory = max(e.PeakMemory, pruneMemory(p.s, p.r, p.set, stateMemory))
		e.Scratch += jointScratch(p.s)
	}
	if p.di != nil {
		e.PeakMemory = max(e.PeakMemory, trainMemory(p.t, p.taught(), p.r, p.set, stateMemory))
		e.Scratch += trainScratch(p.t, p.r, p.set)
	}
	if p.m != nil {
		e.PeakMemory = max(e.PeakMemory, usualMergeMemory(p.c, p.r.KVMerge, p.set))
		e.Scratch = max(e.Scratch, 2*4*int64(p.s.arch.D)*int64(p.set.set.Calib.Tokens())) + scratchOfMaps(p.c, p.m.Refit)
	}
	return e
}

// outputFiles lists everything in the result that holds no tensors.
func (p *planner) outputFiles(shards int) []planfile.OutputFile {
	files := []planfile.OutputFile{{Name: configName, Origin: "copied"}, {Name: planName, Origin: "written"}, {Name: reportName, Origin: "written"}}
	if p.configChanges() {
		files[0].Origin = "edited"
	}
	if shards > 1 {
		files = append(files, planfile.OutputFile{Name: indexName, Origin: "written"})
	}
	if p.h != nil {
		files = append(files, planfile.OutputFile{Name: manifestName, Origin: "written"})
	}
	for _, name := range sortedKeys(p.q.configFiles()) {
		files = append(files, planfile.OutputFile{Name: name, Origin: "written"})
	}
	for _, f := range p.src.Files {
		if !skippedSide(f.Name) {
			files = append(files, planfile.OutputFile{Name: f.Name, Origin: "copied", SHA256: f.SHA256})
		}
	}
	return files
}

func (p *planner) configChanges() bool {
	edits, err := p.s.configEdits(p.view, p.pr.layers(), p.q)
	return p.h != nil || err != nil || len(edits) > 0
}

// targetNotes says what a target makes of the result beyond loading it.
func (p *planner) targetNotes() map[string][]string {
	notes := map[string][]string{}
	tp := tensorParallel(p.t.arch, p.q)
	for _, t := range p.r.Target {
		switch t {
		case "vllm", "sglang":
			notes[t] = append(notes[t], fmt.Sprintf("tensor parallel up to %d", tp))
		case "llama.cpp":
			notes[t] = append(notes[t], "by compress convert, or its own converter")
			if !uniformSizes(p.t.arch) {
				notes[t] = []string{"as GGUF of architecture deci only, which compress convert makes"}
			}
		}
	}
	return notes
}
