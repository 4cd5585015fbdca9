package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/prune"
)

// pruneJob decides which units of a model go.
type pruneJob struct {
	s   *source
	r   *Recipe
	set *dataset
	env Env
	// origin is all that the training of masks follows from: a state of another one is refused.
	origin []byte
}

// sampleCut is a cut of the sizes that a result may have, for the rules of the targets: the shape nearest to an even one, or, where layers
// may differ, one in which they do. A target that cannot be met is an error here, before any compute.
func (p *Prune) sampleCut(m *arch.Model) (*prune.Cut, error) {
	t, rules := p.goal(), p.rules()
	none := &prune.Scores{Hidden: make([]float64, m.D), Layers: make([]prune.LayerScores, len(m.Layers))}
	for l := range m.Layers {
		none.Layers[l] = prune.LayerScores{Heads: make([]float64, m.Layers[l].G), FFN: make([]float64, m.Layers[l].F)}
	}
	counts, err := p.sampleCounts(m, t, rules, none)
	if err != nil {
		return nil, unmet(err)
	}
	return prune.CutOf(m, counts, none)
}

func (p *Prune) sampleCounts(m *arch.Model, t prune.Target, rules prune.Rules, none *prune.Scores) (*prune.Counts, error) {
	if p.Layout == layoutPortable {
		shapes, err := prune.Shapes(m, t, rules, prune.Wish{Most: 1})
		if err != nil {
			return nil, err
		}
		return shapes[0].Counts(m, none)
	}
	want, err := prune.EvenLayers(m, t, rules)
	if err != nil {
		return nil, err
	}
	wholeLayers(&want, none)
	for l := range want.Layers { // uneven, as learnt ones will be
		want.Layers[l].FFN *= 0.75 + 0.5*float64(l%2)
	}
	return prune.FitLayers(m, t, rules, want, none)
}

// unmet gives an error of a target that no allowed sizes meet the class of a wrong recipe.
func unmet(err error) error {
	var miss *prune.TargetError
	if errors.As(err, &miss) {
		return errKind(KindUsage, "take one of the shares that can be had, a smaller prune.multiple, more prune.axes, prune.any_heads, or prune.layout compact", "recipe: %w", err)
	}
	return unfit("prune", err)
}

// shape describes the model in sizes that pruning may leave.
func (p *planner) shape() error {
	p.c, p.cutChanges = p.s, nil
	if p.r.Prune == nil {
		return nil
	}
	cut, err := p.r.Prune.sampleCut(p.s.arch)
	if err != nil {
		return err
	}
	p.c, p.cutChanges, err = p.s.pruned(&pruneDecision{Cut: cut})
	return err
}

// prune decides what stays, and goes on with the model as it then is.
func (p *planner) prune(ctx context.Context) error {
	if p.r.Prune == nil {
		return nil
	}
	j := &pruneJob{s: p.s, r: p.r, set: p.set, env: p.o.Env}
	var err error
	if j.origin, err = json.Marshal([]any{p.r, p.src.WeightsDigest, p.src.HeadersDigest, calibrationOf(p.set)}); err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	var weights formats.Source
	if p.pr, weights, err = j.decide(ctx); err != nil {
		return err
	}
	if p.c, p.cutChanges, err = p.s.joined(weights).pruned(p.pr); err != nil {
		return err
	}
	for _, f := range []func() error{p.mergedShapes, p.quantize, p.layOut} {
		if err := f(); err != nil {
			return err
		}
	}
	if p.pr.HeldOut, err = j.measure(ctx, p.c); err != nil || p.r.Distill != nil {
		return err
	}
	return gateStep(p.pr.HeldOut, p.r.Gates, "pruning", "leave more (prune.params, flops, kv), add a section distill, or loosen the gates")
}

// decide chooses the units that stay. It returns the weights too where these were trained along.
func (j *pruneJob) decide(ctx context.Context) (*pruneDecision, formats.Source, error) {
	r, m := j.r.Prune, j.s.arch
	var l *learnt
	var err error
	if r.Method == pruneVIB {
		l, err = j.learn(ctx, j.env.maskState())
	} else {
		l = &learnt{}
		if l.cut, l.notes, err = j.cut(ctx); err != nil {
			err = unmet(err)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	small, err := l.cut.Arch(m)
	if err != nil {
		return nil, nil, err
	}
	t := r.goal()
	share, ok := t.Reached(m, small)
	if !ok {
		return nil, nil, errKind(KindGate, "this is a fault of the program: report it", "pruning left %v of %s, which is not within %v of %v", share, t.Metric, prune.Tolerance, t.Share)
	}
	return &pruneDecision{Method: r.Method, Metric: string(t.Metric), Share: number(share), Cut: l.cut, Joint: r.joint(), Before: costOfModel(m, r.Length),
		After: costOfModel(small, r.Length), HeldOut: []metric{}, Notes: l.notes}, l.weights, nil
}

// measure compares source and pruned model on the held-out side.
func (j *pruneJob) measure(ctx context.Context, pruned *source) ([]metric, error) {
	list := []metric{}
	if w := j.set.set.Heldout; len(w.IDs) > 0 {
		src, m := j.env.model(j.s), j.env.model(pruned)
		defer src.Release()
		defer m.Release()
		c, err := compare(ctx, src, m, w, j.env, "held-out text, pruned")
		if err != nil {
			return nil, err
		}
		list = append(list, metric{namePerplexity, number(c.Ref.PPL), number(c.Model.PPL)}, metric{nameKL, "0", number(c.KL)})
	}
	return list, nil
}
