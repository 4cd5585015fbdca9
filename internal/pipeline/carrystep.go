package pipeline

import (
	"context"

	"modelpress/formats/manifest"
	"modelpress/internal/nn"
)

// checkCarried refuses, before any compute, gates on an attention plan that there is none of, and a plan beside the source that cannot be
// carried over. A recipe that plans heads has no use for it.
func (p *planner) checkCarried() error {
	if k := p.r.KVMerge; k != nil && mergeScore(p.s, p.r) == scorePlan && !p.s.carries() {
		return errKind(KindUsage, "take another measure", "recipe: kvmerge.score plan: the model carries no attention plan")
	}
	if p.r.Heads != nil {
		return nil
	}
	if err := checkPlanGates(p.r, p.s); err != nil {
		return err
	}
	_, err := readCarried(p.s)
	return err
}

// carriedSource is the attention plan beside the source, for these very weights.
func (p *planner) carriedSource() (*manifest.Plan, error) {
	d, err := p.digests()
	if err != nil {
		return nil, err
	}
	plan, err := carriedPlan(p.s, p.pr, nil, d)
	if err == nil && plan == nil {
		err = errKind(KindUsage, "take another measure", "recipe: kvmerge.score plan: the model carries no attention plan")
	}
	return plan, err
}

// checkPlanGates refuses gates on an attention plan where the result will have none.
func checkPlanGates(r *Recipe, s *source) error {
	if g := r.Gates; (g.PlanPPLRatio != 0 || g.PlanKL != 0) && r.Heads == nil && !s.carries() {
		return errKind(KindUsage, "", "recipe: gates.plan_ppl_ratio and gates.plan_kl need the heads section, or a model that carries an attention plan")
	}
	return nil
}

// carry carries the source's attention plan over, where it has one, to the model that is quantized.
func (p *planner) carry(ctx context.Context, model *nn.Model, d modelDigests) error {
	c := &carrier{p.s, model, p.pr, p.m.layers(), p.o.Tool, d}
	h, err := c.decide()
	if h == nil || err != nil {
		return err
	}
	p.h = h
	return c.judge(ctx, h, p.set, p.r.Gates, p.o.Env)
}

// checkHeadsStep compares whether there is a step with whether there must be: the recipe asks for one, or the source carries a plan.
func (a *applier) checkHeadsStep() (f faults) {
	f.add((a.recipe.Heads != nil || a.s.carries()) != (a.h != nil), "the settings, the model and the steps do not agree on heads")
	if err := checkPlanGates(a.recipe, a.s); err != nil {
		f = append(f, err)
	}
	return f
}

// checkCarried makes the decision once more, but for what was measured: it needs nothing but the source.
func (a *applier) checkCarried(model *nn.Model) (f faults) {
	config, err := configDigest(a.s.ck.Config())
	if err != nil {
		return append(f, err)
	}
	src := a.plan.Source
	c := &carrier{a.s, model, a.pr, a.m.layers(), a.plan.Tool, modelDigests{src.WeightsDigest, src.HeadersDigest, config}}
	want, err := c.decide()
	if err != nil {
		return append(f, err)
	}
	f.add(want == nil || a.h.Method != want.Method || !sameJSON(want.Plan, a.h.Plan) || len(a.h.Notes) > 0,
		"the decision of step %s does not follow from the attention plan that the model carries", stepHeads)
	f.add(a.plan.Calibration == nil && len(a.h.HeldOut) > 0, "the decision of step %s was measured, and the plan names no data", stepHeads)
	return f
}
