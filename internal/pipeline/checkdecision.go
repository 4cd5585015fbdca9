package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"modelpress/heads"
)

// checkDecisions refuses a plan whose parts do not belong together: settings out of their bounds, decisions that do not follow
// from the settings and the model, gates or data that the settings do not ask for. A plan's id shows that it was not edited; it
// is no signature, so nothing in a plan is trusted to be within bounds.
func (a *applier) checkDecisions(context.Context) error {
	var f faults
	if err := a.recipe.check(); err != nil {
		f = append(f, fmt.Errorf("settings: %w", err))
	}
	f.add((a.recipe.Quantize != nil) != (a.q != nil), "the settings and the steps do not agree on quantization")
	f.add((a.recipe.Sparsify != nil) != (a.sp != nil), "the settings and the steps do not agree on sparse weights")
	f.add((a.recipe.Prune != nil) != (a.pr != nil), "the settings and the steps do not agree on pruning")
	f.add((a.recipe.Distill != nil) != (a.di != nil), "the settings and the steps do not agree on training")
	f.add((a.recipe.KVMerge != nil) != (a.m != nil), "the settings and the steps do not agree on merging KV heads")
	f = append(f, a.checkHeadsStep()...)
	f.add(!reflect.DeepEqual(gateRows(a.recipe.Gates), a.plan.Gates) && len(gateRows(a.recipe.Gates))+len(a.plan.Gates) > 0,
		"the settings and the plan do not agree on gates")
	needs := a.pr != nil || a.di != nil || a.m != nil || a.recipe.Heads != nil || workOf(a.sp, a.q).data || a.recipe.Gates != Gates{}
	f.add(needs && a.plan.Calibration == nil, "the steps look at data, and the plan names none")
	if len(f) == 0 {
		f = append(f, a.checkPrune()...)
	}
	if len(f) == 0 {
		f = append(f, a.checkMerge()...)
	}
	if len(f) == 0 {
		a.checkDistill()
	}
	if len(f) == 0 {
		f = append(f, a.checkSparsify()...)
		f = append(f, a.checkQuantize()...)
		f = append(f, a.checkHeads()...)
	}
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: KindStale, Err: fmt.Errorf("plan: %w", sortedJoin(f)), Hint: "plan again with this build"}
}

// checkPrune checks what stays and describes the model that it makes.
func (a *applier) checkPrune() (f faults) {
	a.c = a.s
	if a.pr == nil {
		return nil
	}
	if a.pr.Cut == nil {
		f.add(true, "the decision of step %s says nothing of what stays", stepPrune)
		return f
	}
	base := a.s
	if a.pr.Joint {
		a.joint = newLateSource(a.s.dense, a.s.arch)
		base = a.s.joined(a.joint)
	}
	var err error
	if a.c, a.cutChanges, err = base.pruned(a.pr); err != nil {
		return append(f, err)
	}
	r, t := a.recipe.Prune, a.recipe.Prune.goal()
	share, ok := t.Reached(a.s.arch, a.c.arch)
	f.add(!ok, "the decision of step %s leaves %v of %s, the settings ask for %v", stepPrune, share, t.Metric, t.Share)
	f.add(a.pr.Joint != r.joint() || a.pr.Method != r.Method || a.pr.Metric != string(t.Metric) || a.pr.Share != number(share) ||
		a.pr.Before != costOfModel(a.s.arch, r.Length) || a.pr.After != costOfModel(a.c.arch, r.Length),
		"the decision of step %s does not follow from the settings and the model", stepPrune)
	return f
}

// checkDistill describes the model whose weights are to be trained.
func (a *applier) checkDistill() {
	a.w = a.t
	if a.di == nil {
		return
	}
	a.late = newLateSource(a.t.dense, a.t.arch)
	a.w = &source{dir: a.s.dir, ck: a.s.ck, dense: a.late, arch: a.t.arch}
}

// checkMerge checks the groups and describes the model that they make.
func (a *applier) checkMerge() (f faults) {
	if a.m != nil {
		f = a.m.check(a.c.arch, a.recipe.KVMerge)
		f.add(a.m.Retrieval != mergeScore(a.s, a.recipe), "the decision of step %s does not follow from the settings", stepMerge)
		if len(f) > 0 {
			return f
		}
	}
	var err error
	files := mapFiles{dir: a.work, s: a.c, d: a.m, want: a.mapsDigest}
	if a.t, err = a.c.merged(a.m, files.load, a.o.Env.Device.For); err != nil {
		f = append(f, err)
	}
	return f
}

// checkQuantize makes the decision once more: it needs nothing but the settings and the model.
func (a *applier) checkQuantize() (f faults) {
	if a.q == nil {
		return nil
	}
	if s := a.recipe.Quantize; s.Symmetric == nil || s.Clip == nil {
		f.add(true, "settings: quantize is not complete")
		return f
	}
	store, err := a.s.storeDType()
	if err != nil {
		return append(f, err)
	}
	want, err := decideQuantize(a.c.arch, a.recipe, store)
	if err != nil {
		return append(f, err)
	}
	f.add(!sameJSON(want, a.q), "the decision of step %s does not follow from the settings and the model", stepQuantize)
	return f
}

// checkSparsify makes the decision once more, as checkQuantize does.
func (a *applier) checkSparsify() (f faults) {
	if a.sp == nil {
		return nil
	}
	want, err := decideSparsify(a.t.arch, a.recipe.Sparsify)
	if err != nil {
		return append(f, err)
	}
	f.add(!sameJSON(want, a.sp), "the decision of step %s does not follow from the settings and the model", stepSparsify)
	for _, v := range want.rules(a.t.arch) {
		f.add(true, "%s", v)
	}
	return f
}

// checkHeads checks what cannot be computed again without data: a valid attention plan over this very model.
func (a *applier) checkHeads() (f faults) {
	if a.h == nil {
		return nil
	}
	if a.recipe.Heads == nil {
		return a.checkCarried(a.t.model(a.o.Env.Device))
	}
	if a.h.Plan == nil {
		f.add(true, "the decision of step %s has no attention plan", stepHeads)
		return f
	}
	f.add(a.h.Method != a.recipe.Heads.Method || a.h.Plan.Phases.Decode.Page != a.recipe.Heads.Page,
		"the decision of step %s does not follow from the settings", stepHeads)
	for _, fault := range a.h.Plan.Validate() {
		f.add(true, "the attention plan: %s", fault)
	}
	if h := a.recipe.Heads; oneOf(h.Method, rankings...) {
		pol, ok := a.h.Plan.Policies[heads.PolicyStreaming]
		f.add(ok && (pol.Sink != heads.RoundUp(h.Sink, h.Page) || pol.Recent != heads.RoundUp(h.Recent, h.Page)),
			"the decision of step %s does not follow from the settings", stepHeads)
	}
	for _, id := range sortedKeys(a.h.Plan.Policies) {
		pol := a.h.Plan.Policies[id]
		f.add(!pol.Known(), "the attention plan: policy %q is of a kind that this build does not know", id)
	}
	if len(f) > 0 {
		return f
	}
	if err := checkPlanFits(a.h.Plan, a.t.arch); err != nil {
		return append(f, err)
	}
	if err := a.h.Plan.CheckModel(a.plan.Source.WeightsDigest, a.plan.Source.HeadersDigest, ""); err != nil {
		return append(f, err)
	}
	want, err := draftPlan(a.s, a.t, a.pr, a.m)
	if err != nil {
		return append(f, err)
	}
	d := a.h.Plan.Model
	identify(want, a.s, a.plan.Tool, modelDigests{d.WeightsDigest, d.HeadersDigest, d.ConfigDigest})
	f.add(!sameJSON(want.Model, d) || a.h.Plan.RopePositions != want.RopePositions, "the attention plan describes another model than this one")
	f.add(!sameJSON(kvBudget(a.h.Plan, a.t.arch), a.h.Plan.Budget), "the attention plan counts its cache wrong")
	if err := servable(a.t.model(a.o.Env.Device), a.h.Plan); err != nil {
		f = append(f, err)
	}
	return f
}

// sameJSON reports whether two values have the same JSON, numbers compared by value.
func sameJSON(a, b any) bool {
	var list [2]any
	for i, v := range []any{a, b} {
		raw, err := json.Marshal(v)
		if err != nil || json.Unmarshal(raw, &list[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(list[0], list[1])
}
