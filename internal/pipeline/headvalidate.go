package pipeline

import (
	"context"
	"fmt"
	"strings"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/nn"
)

// The names of measured quantities in reports and attention plans. A measurement at a length of its own has @ and the length
// behind its name, one of a task the task in between: needle_accuracy_multi-key@512.
const (
	namePerplexity = "perplexity"
	nameKL         = "kl"
	nameNeedle     = "needle_accuracy"
	nameNeedleNLL  = "needle_answer_nll"
)

// kind is the name without task and length.
func (m metric) kind() string {
	name, _, _ := strings.Cut(m.Name, "@")
	for _, k := range []string{nameNeedleNLL, nameNeedle} {
		if name == k || strings.HasPrefix(name, k+"_") {
			return k
		}
	}
	return name
}

// higher reports whether more is better.
func (m metric) higher() bool { return m.kind() == nameNeedle }

// task is a set of held-out prompts of one kind and length; text is held-out windows of one length.
type task struct {
	kind    calib.Kind
	length  int
	prompts []calib.Prompt
}

type text struct {
	length  int
	windows calib.Windows
}

// validation makes what the recipe's heads.validate asks for from the held-out side.
func (d *dataset) validation(r *Recipe, enc calib.Encoder) error {
	v := r.Heads.Validate
	hay := d.set.Heldout.Flat(1)
	for i, length := range v.Lengths {
		for k, kind := range v.Tasks {
			opt := r.Retrieval.options(d.bos)
			opt.Kind, opt.Lengths, opt.PerCell = calib.Kind(kind), []int{length}, v.PerCell
			opt.Seed = r.Seed*2 + 2 + uint64(1000*(i+1)+k)
			prompts, err := calib.MakePrompts(enc, hay, opt)
			if err != nil {
				return fmt.Errorf("heads.validate: %s: %w", kind, err)
			}
			d.tasks = append(d.tasks, task{calib.Kind(kind), length, prompts})
		}
		if w := cutWindows(hay, d.bos, length, v.Windows); len(w) > 0 {
			d.texts = append(d.texts, text{length, calib.NewWindows(w)})
		}
	}
	return nil
}

// cutWindows cuts up to n windows of the given length from a stream, each with bos in front where there is one.
func cutWindows(stream []int32, bos *int32, length, n int) [][]int32 {
	var list [][]int32
	body := length
	if bos != nil {
		body--
	}
	for at := 0; at+body <= len(stream) && len(list) < n; at += body {
		var w []int32
		if bos != nil {
			w = append(w, *bos)
		}
		list = append(list, append(w, stream[at:at+body]...))
	}
	return list
}

// measurePlan compares the model with and without the attention plan, as a runtime would serve it, on held-out data from which
// the plan hides something: the recipe's windows and prompts, and those of heads.validate.
func measurePlan(ctx context.Context, m *nn.Model, p *manifest.Plan, set *dataset, env Env) ([]metric, error) {
	list := []metric{}
	texts := append([]text{{0, set.set.Heldout}}, set.texts...)
	for _, t := range texts {
		if len(t.windows.IDs) == 0 || !hides(p, t.windows.Longest()) {
			continue
		}
		more, err := measureText(ctx, m, p, t, env)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	tasks := append([]task{{"", 0, set.held}}, set.tasks...)
	for _, t := range tasks {
		if len(t.prompts) == 0 || !hides(p, longestPrompt(t.prompts)) {
			continue
		}
		more, err := measureTask(ctx, m, p, t, env)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

func measureText(ctx context.Context, m *nn.Model, p *manifest.Plan, t text, env Env) ([]metric, error) {
	at := ""
	if t.length > 0 {
		at = fmt.Sprintf("@%d", t.length)
	}
	tick, stop := counter(env.Progress, "held-out text"+at+" under the attention plan")
	defer stop()
	c, err := calib.Compare(ctx, m, m, t.windows, env.eval(p, tick))
	if err != nil {
		return nil, err
	}
	return []metric{{namePerplexity + at, number(c.Ref.PPL), number(c.Model.PPL)}, {nameKL + at, "0", number(c.KL)}}, nil
}

func measureTask(ctx context.Context, m *nn.Model, p *manifest.Plan, t task, env Env) ([]metric, error) {
	at, what := "", "needles"
	if t.length > 0 {
		at = fmt.Sprintf("_%s@%d", t.kind, t.length)
		what = fmt.Sprintf("%s prompts of %d tokens", t.kind, t.length)
	}
	dense, err := retrieval(ctx, m, t.prompts, nil, env, what+", dense")
	if err != nil {
		return nil, err
	}
	plan, err := retrieval(ctx, m, t.prompts, p, env, what+", planned")
	if err != nil {
		return nil, err
	}
	return []metric{{nameNeedle + at, number(dense.Accuracy), number(plan.Accuracy)},
		{nameNeedleNLL + at, number(dense.AnswerNLL), number(plan.AnswerNLL)}}, nil
}

func retrieval(ctx context.Context, m *nn.Model, prompts []calib.Prompt, p *manifest.Plan, env Env, name string) (calib.RetrievalResult, error) {
	tick, stop := counter(env.Progress, name)
	defer stop()
	return calib.Retrieval(ctx, m, prompts, env.eval(p, tick))
}

// eval says how models are run for a measurement, under an attention plan or dense where it is nil.
func (e Env) eval(p *manifest.Plan, tick func(done, total int)) calib.EvalOptions {
	return calib.EvalOptions{Plan: p, Dir: e.Scratch, MemLimit: e.stateLimit(), Progress: tick}
}

// planGates are the bounds on what the attention plan alone may do.
func planGates(g Gates) []gateBound {
	var list []gateBound
	add := func(metric string, bound float64, of func(planCost) (float64, bool)) {
		if bound != 0 {
			list = append(list, gateBound{metric, bound, of})
		}
	}
	add(metricNeedleDrop, g.NeedleDrop, func(c planCost) (float64, bool) { return c.drop, c.needles })
	add(metricPlanPPL, g.PlanPPLRatio, func(c planCost) (float64, bool) { return c.ratio, c.text })
	add(metricPlanKL, g.PlanKL, func(c planCost) (float64, bool) { return c.kl, c.text })
	return list
}

type gateBound struct {
	metric string
	bound  float64
	of     func(planCost) (float64, bool)
}

// planCost is the worst of what a plan costs over tasks and lengths.
type planCost struct {
	drop, ratio, kl float64
	needles, text   bool
}

func costOf(list []metric) planCost {
	c := planCost{ratio: 1}
	for _, m := range list {
		dense, plan := toFloat(m.Dense), toFloat(m.Plan)
		switch m.kind() {
		case nameNeedle:
			c.drop, c.needles = max(c.drop, dense-plan), true
		case namePerplexity:
			c.ratio, c.text = max(c.ratio, plan/dense), true
		case nameKL:
			c.kl, c.text = max(c.kl, plan), true
		}
	}
	return c
}

// gatePlan fails an attention plan that costs more than the recipe allows. What nothing was measured for is left to apply, which
// measures the result: there a plan that hides nothing passes.
func gatePlan(list []metric, g Gates) error {
	c := costOf(list)
	var f faults
	for _, b := range planGates(g) {
		if v, ok := b.of(c); ok {
			f.add(v > b.bound+gateSlack, "gate %s: the attention plan reaches %s on held-out data, want at most %v", b.metric, number(v), b.bound)
		}
	}
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: KindGate, Err: sortedJoin(f), Hint: "give the plan more of the cache (full_share, kv_budget, recent), or another method"}
}
