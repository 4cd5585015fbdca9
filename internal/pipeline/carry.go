package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/heads"
	"modelpress/heads/kvmerge"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// methodCarried is the method of a heads decision that was not made here: the plan lay beside the source already.
const methodCarried = "carried"

// hintAnew says what helps against a plan that cannot be carried over.
const hintAnew = "give the recipe a section heads, which plans anew"

// carries reports whether the configuration points to an attention plan. A pointer that cannot be read is one.
func (s *source) carries() bool {
	ptr, err := planPointer(s.ck.Config())
	return ptr != nil || err != nil
}

// readCarried reads the attention plan that the source's configuration points to, and checks what can be checked before the weights are
// read; nil where there is no pointer. Classes are those of eval and manifest check: KindStale for a document that is not the one pointed
// to, KindInput for one that is not there, has faults, is for another shape, or says what this build would lose by writing it again.
func readCarried(s *source) (*manifest.Plan, error) {
	ptr, err := planPointer(s.ck.Config())
	if err != nil {
		return nil, errKind(KindInput, hintAnew, "%w", err)
	}
	if ptr == nil {
		return nil, nil
	}
	bad := func(k Kind, hint, format string, args ...any) (*manifest.Plan, error) {
		return nil, &Error{Kind: k, Err: formats.Errorf(manifestName, "", format, args...), Hint: hint}
	}
	if ptr.File != manifestName { // nothing else is opened, whatever a configuration says
		return nil, errKind(KindInput, hintAnew, "%s: attention_plan names the file %.80q, want %s", configName, ptr.File, manifestName)
	}
	doc, err := readLimited(filepath.Join(s.dir, manifestName), manifest.MaxBytes)
	if err != nil {
		return nil, errKind(KindInput, hintAnew, "the attention plan that %s points to: %w", configName, err)
	}
	if err := ptr.Check(doc); err != nil {
		return bad(KindStale, "restore the plan that was written with these weights, or "+hintAnew, "%w", err)
	}
	p, err := manifest.Decode(doc)
	if err != nil {
		return bad(KindInput, hintAnew, "%w", err)
	}
	for _, f := range p.Requires {
		if !slices.Contains(manifest.KnownFeatures(), f) {
			return bad(KindInput, hintAnew, "requires %.80q, which this build does not know and so cannot carry over", f)
		}
	}
	if err := checkPlanFits(p, s.arch); err != nil {
		return bad(KindInput, hintAnew, "%w", err)
	}
	if k := heads.Draft(s.arch).Model.HeadDim; p.Model.HeadDim != k {
		return bad(KindInput, hintAnew, "is for heads of %d channels, the model's have %d", p.Model.HeadDim, k)
	}
	return p, nil
}

// carriedPlan returns the attention plan that lies beside the source, as it is for the model that the source becomes where it is pruned and
// its KV heads are merged and repeated as layers say; a nil cut and nil layers leave them as they are. It is nil where the source carries none. d are the source's
// digests: a plan for other weights is KindStale, as in eval; one that cannot be mapped is KindInput. What was measured is not
// carried over, and where heads changed the result has no digests.
func carriedPlan(s *source, cut *pruneDecision, layers []kvmerge.Layer, d modelDigests) (*manifest.Plan, error) {
	p, err := readCarried(s)
	if p == nil || err != nil {
		return nil, err
	}
	if !s.planned {
		if err := checkCarriedModel(p, d); err != nil {
			return nil, err
		}
	}
	p.Schema, p.Quality, p.Budget = manifest.Schema, nil, nil
	if p, err = prunePlan(p, s.arch, cut); err == nil {
		p, err = mergePlan(p, layers)
	}
	if err != nil {
		return nil, &Error{Kind: KindInput, Err: formats.Errorf(manifestName, "", "%w", err), Hint: hintAnew}
	}
	return p, nil
}

// checkCarriedModel compares an attention plan with the digests of the model that it lies beside.
func checkCarriedModel(p *manifest.Plan, d modelDigests) error {
	err := p.CheckModel(d.weights, d.headers, d.config)
	if err == nil {
		return nil
	}
	return &Error{Kind: KindStale, Err: formats.Errorf(manifestName, "", "%w", err), Hint: "use the plan that lies beside these weights, or " + hintAnew}
}

// prunePlan maps a plan over to the layers and KV heads that stay.
func prunePlan(p *manifest.Plan, m *arch.Model, cut *pruneDecision) (*manifest.Plan, error) {
	layers, keep := cut.kept(m)
	whole := cut == nil || len(layers) == len(m.Layers) && !slices.ContainsFunc(keep, func(k []int) bool { return k != nil })
	if whole {
		return p, nil
	}
	p, err := p.Prune(layers, keep)
	if err == nil {
		p.Model.WeightsDigest = placeholderDigest // what is merged or repeated after this must not have a fault
	}
	return p, err
}

// mergePlan maps a plan over to merged and repeated KV heads.
func mergePlan(p *manifest.Plan, layers []kvmerge.Layer) (*manifest.Plan, error) {
	groups, times := make([][][]int, len(layers)), make([]int, len(layers))
	merged, repeated := false, false
	for l, how := range layers {
		if !how.Groups.Trivial() {
			groups[l], merged = how.Groups, true
		}
		times[l] = how.Repeat
		repeated = repeated || how.Repeat > 1
	}
	var err error
	if merged {
		if p, err = p.MergeKV(groups); err != nil {
			return nil, err
		}
	}
	if !repeated {
		return p, nil
	}
	if merged { // a plan with no digest has a fault, and these heads have no weights of their own
		p.Model.WeightsDigest = placeholderDigest
	}
	return p.RepeatKV(times)
}

// carrier carries the attention plan of a source over to its result.
type carrier struct {
	s       *source
	model   *nn.Model       // the source with its KV heads merged as layers say: what is quantized
	cut     *pruneDecision  // nil where nothing is pruned
	layers  []kvmerge.Layer // nil where none are
	tool    planfile.Tool
	digests modelDigests // of the source
}

// decide returns the heads decision that follows from the source alone, nil where it carries no plan. It looks at no data.
func (c *carrier) decide() (*headsDecision, error) {
	p, err := carriedPlan(c.s, c.cut, c.layers, c.digests)
	if p == nil || err != nil {
		return nil, err
	}
	if err := checkPlanFits(p, c.model.Arch); err != nil {
		return nil, err
	}
	identify(p, c.s, c.tool, c.digests)
	p.Model.Architecture, p.Model.MaxPosition = c.model.Arch.Architecture, c.model.Arch.MaxPosition
	p.Budget = kvBudget(p, c.model.Arch)
	if faults := p.Validate(); len(faults) > 0 {
		return nil, fmt.Errorf("pipeline: the attention plan is not valid: %w", &manifest.FaultsError{Faults: faults})
	}
	if err := servable(c.model, p); err != nil {
		return nil, &Error{Kind: KindInput, Err: formats.Errorf(manifestName, "", "%w", err), Hint: hintAnew}
	}
	return &headsDecision{Method: methodCarried, Plan: p, HeldOut: []metric{}}, nil
}

// judge measures a carried plan on the held-out side, where the recipe has one: a plan that breaks a gate is an error.
func (c *carrier) judge(ctx context.Context, h *headsDecision, set *dataset, g Gates, env Env) error {
	if set == nil {
		return nil
	}
	h.warn(set, env)
	var err error
	if h.HeldOut, err = measurePlan(ctx, c.model, h.Plan, set, env); err != nil {
		return err
	}
	err = gatePlan(h.HeldOut, g)
	var gate *Error
	if errors.As(err, &gate) {
		gate.Hint = "loosen the gates, or " + hintAnew
	}
	return err
}
