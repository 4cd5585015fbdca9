package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/heads"
	"modelpress/internal/nn"
)

// headJob is the making of an attention plan: planners narrow the draft one after the other.
type headJob struct {
	m    *nn.Model
	r    *Recipe
	set  *dataset
	env  Env
	plan *manifest.Plan
}

// decideHeads profiles the model on the calibration side, decides what every KV head keeps and looks at, and measures the plan
// on the held-out side at the very sizes that it ships. A plan that breaks a gate there is an error.
// s is the source and t what pruning it and merging its KV heads makes of it.
func decideHeads(ctx context.Context, s, t *source, cut *pruneDecision, merge *mergeDecision, r *Recipe, set *dataset, tool planfile.Tool, d modelDigests, env Env) (*headsDecision, error) {
	draft, err := draftPlan(s, t, cut, merge)
	if err != nil {
		return nil, err
	}
	j := &headJob{m: env.model(t), r: r, set: set, env: env, plan: draft}
	defer j.m.Release()
	identify(j.plan, t, tool, d)
	j.plan.Phases.Decode = manifest.DecodePhase{Page: r.Heads.Page, Round: "up"}
	for _, step := range []func(context.Context) error{j.decode, j.prefill, j.keyChannels, j.evidence} {
		if err := step(ctx); err != nil {
			return nil, unfit("heads", err)
		}
	}
	j.plan.Requires = j.plan.Needs()
	j.plan.Budget = kvBudget(j.plan, t.arch)
	if faults := j.plan.Validate(); len(faults) > 0 {
		return nil, fmt.Errorf("pipeline: the attention plan is not valid: %w", &manifest.FaultsError{Faults: faults})
	}
	h := &headsDecision{Method: r.Heads.Method, Plan: j.plan}
	h.warn(set, env)
	if h.HeldOut, err = measurePlan(ctx, j.m, h.Plan, set, env); err != nil {
		return nil, err
	}
	if h.Method == "duo" {
		if err := env.keeper().done(); err != nil {
			return nil, err
		}
	}
	return h, gatePlan(h.HeldOut, r.Gates)
}

// draftPlan is the plan of a model, t, that keeps and looks at everything. It records where its KV heads come from in s, the model
// before they were merged.
func draftPlan(s, t *source, cut *pruneDecision, merge *mergeDecision) (*manifest.Plan, error) {
	p := heads.Draft(t.arch)
	if merge == nil && cut == nil {
		return p, nil
	}
	before := heads.Draft(s.arch)
	before.Model.WeightsDigest = placeholderDigest
	mapped, err := prunePlan(before, s.arch, cut)
	if err == nil {
		mapped, err = mergePlan(mapped, merge.layers())
	}
	if err != nil {
		return nil, err
	}
	p.Model.Permutation = mapped.Model.Permutation
	for i := range p.Layers {
		for _, l := range mapped.Layers {
			if l.Layer == p.Layers[i].Layer {
				p.Layers[i].SourceLayer = l.SourceLayer
			}
		}
	}
	return p, nil
}

// unfit gives an error of a section's step that is nobody else's the class of wrong recipes: package heads refuses options that do not
// fit the model or the data, such as windows that a streaming head sees as a whole.
func unfit(section string, err error) error {
	err = deviceError(err)
	var input *formats.Error
	var file *fs.PathError
	if errors.As(err, &input) || errors.As(err, &file) || KindOf(err) != 0 || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, formats.ErrNoSpace) {
		return err
	}
	return &Error{Kind: KindUsage, Err: err, Hint: "change the sections " + section + " and calibration of the recipe, or give other data"}
}

// options says how the model is run for a measure, with a progress bar of the given name.
func (j *headJob) options(name string) (heads.Options, func()) {
	tick, stop := counter(j.env.Progress, name)
	return heads.Options{Dir: j.env.Scratch, MemLimit: j.env.stateLimit(), Progress: tick}, stop
}

// longest is the number of tokens that the plan's sizes are meant for where the recipe does not say.
func (j *headJob) budgetLength() int {
	if n := j.r.Heads.BudgetLength; n > 0 {
		return n
	}
	n := j.set.set.Calib.Longest()
	if t := j.r.Retrieval; t != nil {
		for _, l := range t.Lengths {
			n = max(n, l)
		}
	}
	return n
}

// summary counts heads by what they decode under.
func (h *headsDecision) summary() string {
	count := map[string]int{}
	total := 0
	for l := range h.Plan.Model.Layers {
		_, g := h.Plan.Counts(l)
		for k := range g {
			_, id := h.Plan.Resolve(l, k, manifest.Decoding, h.Plan.Model.MaxPosition)
			count[id]++
			total++
		}
	}
	var parts []string
	for _, id := range sortedKeys(count) {
		if id != heads.PolicyFull {
			parts = append(parts, fmt.Sprintf("%d %s", count[id], describePolicy(h.Plan.Policies[id])))
		}
	}
	if len(parts) > 4 {
		parts = append(parts[:3], fmt.Sprintf("%d policies more", len(parts)-3))
	}
	how := "by " + h.Method
	if h.Method == methodCarried {
		how = "as in the model's own plan"
	}
	s := fmt.Sprintf("%d of %d kv heads full %s", count[heads.PolicyFull], total, how)
	if len(parts) > 0 {
		s = fmt.Sprintf("%s, %s", strings.Join(parts, ", "), s)
	}
	return s
}

// describePolicy says what a policy keeps in a few words.
func describePolicy(p manifest.Policy) string {
	switch p.Kind {
	case manifest.KindStreaming:
		s := fmt.Sprintf("streaming (sink %d, recent %d)", p.Sink, p.Recent)
		if p.Compensation {
			s = fmt.Sprintf("streaming (sink %d, recent %d, compensation)", p.Sink, p.Recent)
		}
		return s
	case manifest.KindElastic:
		return fmt.Sprintf("elastic (%g + %g·N)", p.Alpha, p.Beta)
	case manifest.KindTokenTopK:
		return fmt.Sprintf("%s (%d tokens)", p.Selector, p.Budget)
	}
	return p.Kind
}

func (h *headsDecision) rows() []planfile.Row {
	rows := []planfile.Row{{Mark: "~", Scope: layerRange(0, h.Plan.Model.Layers), Text: h.summary()}}
	if b := h.Plan.Budget; b != nil && len(b.DensityAt) > 0 {
		rows = append(rows, planfile.Row{Mark: "=", Scope: "kv cache", Text: densities(b)})
	}
	if row := loadRow(h.Plan); row != "" {
		rows = append(rows, planfile.Row{Mark: "=", Scope: "full heads", Text: row})
	}
	for _, m := range h.HeldOut {
		rows = append(rows, planfile.Row{Mark: "=", Scope: "held out", Text: fmt.Sprintf("%s %s -> %s", m.Name, m.Dense, m.Plan)})
	}
	return rows
}

// loadRow tells what the busiest of 2, 4 and 8 ranks holds of the full heads, layer by layer, and what an even split would give;
// "" where no head or every head is full.
func loadRow(p *manifest.Plan) string {
	full := fullHeads(p, p.Model.MaxPosition)
	var parts []string
	for tp := 2; tp <= 8; tp *= 2 {
		load, err := heads.TensorParallel(full, tp)
		if err == nil && load.Ideal > 0 {
			parts = append(parts, fmt.Sprintf("TP %d %d (%g)", tp, load.Busiest, load.Ideal))
		}
	}
	if n, all := p.FullHeads(p.Model.MaxPosition); n == 0 || n == all || len(parts) == 0 {
		return ""
	}
	return "busiest rank (even split): " + strings.Join(parts, ", ")
}

// densities writes the share of the dense cache that is kept at the shortest and the longest counted length.
func densities(b *manifest.Budget) string {
	var lengths []int
	for key := range b.DensityAt {
		var n int
		fmt.Sscan(key, &n)
		lengths = append(lengths, n)
	}
	sort.Ints(lengths)
	var parts []string
	for _, n := range []int{lengths[0], lengths[len(lengths)-1]} {
		parts = append(parts, fmt.Sprintf("%.1f %% at %d tokens", 100*b.DensityAt[fmt.Sprint(n)], n))
		if len(lengths) == 1 {
			break
		}
	}
	return strings.Join(parts, ", ")
}

// warn says where the held-out side is too short to tell what the plan costs.
func (h *headsDecision) warn(set *dataset, env Env) {
	if n := h.Plan.Model.MaxPosition; !hides(h.Plan, n) {
		env.warn("the attention plan leaves every head full, up to %d tokens", n)
		return
	}
	for _, side := range []struct {
		what   string
		length int
		lost   string
	}{{"windows", set.set.Heldout.Longest(), "perplexity says"}, {"prompts", longestPrompt(set.held), "needles say"}} {
		if side.length > 0 && !hides(h.Plan, side.length) {
			env.warn("held-out %s of %d tokens are short enough to be seen as a whole: %s nothing about the attention plan", side.what, side.length, side.lost)
		}
	}
}

// hides reports whether under the plan some query fails to see something of a sequence of length tokens, or sees it otherwise.
func hides(p *manifest.Plan, length int) bool {
	for l := range p.Model.Layers {
		h, g := p.Counts(l)
		for k := range g {
			if pol, _ := p.Resolve(l, k, manifest.Decoding, length); alters(pol, length) || p.KeyChannels(l, k, p.Model.HeadDim) < p.Model.HeadDim {
				return true
			}
		}
		for q := range h {
			if pol, _ := p.ResolveQuery(l, q, manifest.Prefill, length); alters(pol, length) {
				return true
			}
		}
	}
	return false
}

// alters reports whether attention over length tokens under a policy can differ from full attention. What a cache holds does not
// tell: some policies keep every token and attend to a choice of them.
func alters(pol manifest.Policy, length int) bool {
	switch pol.Kind {
	case manifest.KindFull:
		return false
	case manifest.KindTokenTopK:
		return max(pol.Budget, pol.Window) < length
	case manifest.KindStreaming, manifest.KindElastic, manifest.KindLocalStride:
		return pol.Span(length) < length
	}
	return true
}
