package pipeline

import (
	"context"
	"encoding/json"
	"fmt"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/formats/safetensors"
	"modelpress/internal/arch"
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
	if s.ck.QuantizationConfig() != nil {
		return nil, formats.Errorf("config.json", "", "the checkpoint is quantized already; plan on the original weights")
	}
	for _, w := range s.ck.Warnings() {
		o.Env.warn("%s", w)
	}
	p := &planner{o: o, s: s, r: o.Recipe}
	for _, f := range []func(context.Context) error{p.decide, p.data, p.budget, p.fingerprint, p.heads} {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	plan, err := p.assemble()
	if err != nil {
		return nil, err
	}
	if err := s.ck.CheckUnchanged(); err != nil {
		return nil, err
	}
	return plan, nil
}

type planner struct {
	o    PlanOptions
	s    *source
	r    *Recipe
	vs   []violation
	q    *quantDecision
	h    *headsDecision
	set  *dataset
	src  planfile.Source
	outs []outTensor
	view *arch.Model
}

// decide makes the choices that need no compute, and refuses what would not load.
func (p *planner) decide(context.Context) error {
	if p.r.Quantize != nil {
		store, err := p.s.storeDType()
		if err != nil {
			return err
		}
		if p.q, err = decideQuantize(p.s.arch, p.r, store); err != nil {
			return err
		}
	}
	if h := p.r.Heads; h != nil && h.BudgetLength > p.s.arch.MaxPosition {
		return errKind(KindUsage, "give the length that you serve, within the model's positions", "recipe: heads.budget_length %d: the model has %d positions",
			h.BudgetLength, p.s.arch.MaxPosition)
	}
	if err := p.checkCarried(); err != nil {
		return err
	}
	p.vs = preflight(p.s.arch, p.r.Target, p.q)
	if err := refusal(p.vs); err != nil {
		return err
	}
	view, m, err := p.s.rotated(p.q, p.o.Env.Device.For)
	if err != nil {
		return err
	}
	p.view = m
	p.outs, err = planOutputs(p.s.ck, view, m, p.q)
	return err
}

// budget plans the run into the memory that it may take, or refuses.
func (p *planner) budget(context.Context) error {
	return p.o.Env.fit(func(states int64) int64 { return planMemory(p.s, p.set, states) })
}

func (p *planner) fingerprint(ctx context.Context) error {
	var err error
	p.src, err = fingerprint(ctx, p.s, p.o.Env)
	return err
}

// needsData reports whether any part of the plan looks at calibration data.
func (p *planner) needsData() bool {
	return p.r.Heads != nil || p.q != nil && p.q.needsData() || p.o.Data.Calib != "" || p.r.Gates != Gates{}
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
	config, err := configDigest(p.s.ck.Config())
	if err != nil {
		return err
	}
	d := modelDigests{weights: p.src.WeightsDigest, headers: p.src.HeadersDigest, config: config}
	if p.r.Heads == nil {
		return p.carry(ctx, p.s.model(p.o.Env.Device), nil, d)
	}
	p.h, err = decideHeads(ctx, p.s, p.r, p.set, p.o.Tool, d, p.o.Env)
	return err
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
	changes, err := changeRows(p.s.ck, p.outs, p.s.arch.Embed)
	if err != nil {
		return nil, err
	}
	plan := &planfile.Plan{
		Tool: p.o.Tool, DeviceClass: p.o.Env.Device.Class(), Source: p.src, Calibration: calibrationOf(p.set),
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
	return plan, nil
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
	if p.h != nil {
		if err := add(stepHeads, headsVersion, p.h, p.h.summary(), p.h.rows()); err != nil {
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
	e := planfile.Estimate{PeakMemory: usualMemory(p.s, p.q, p.set)}
	if p.q != nil && p.q.needsData() {
		e.Scratch = scratchBytes(p.s.arch, int64(p.set.set.Calib.Tokens()))
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
	for _, f := range p.src.Files {
		if !skippedSide(f.Name) {
			files = append(files, planfile.OutputFile{Name: f.Name, Origin: "copied", SHA256: f.SHA256})
		}
	}
	return files
}

func (p *planner) configChanges() bool {
	edits, err := configEdits(p.s.ck.Config(), p.s.arch, p.view, p.q)
	return p.h != nil || err != nil || len(edits) > 0
}

// targetNotes says what a target makes of the result beyond loading it.
func (p *planner) targetNotes() map[string][]string {
	notes := map[string][]string{}
	tp := tensorParallel(p.s.arch, p.q)
	for _, t := range p.r.Target {
		switch t {
		case "vllm", "sglang":
			notes[t] = append(notes[t], fmt.Sprintf("tensor parallel up to %d", tp))
		case "llama.cpp":
			notes[t] = append(notes[t], "through its Hugging Face converter")
		}
	}
	return notes
}
