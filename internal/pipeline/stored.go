package pipeline

import (
	"modelpress/formats"
	"modelpress/heads/kvmerge"
	"modelpress/internal/arch"
	"modelpress/prune"
)

// stored is a checkpoint under the names that its tensors have in a result, and what the steps before rotation make of each.
type stored struct {
	ck      formats.Source       // as it lies on disk
	copies  formats.Source       // shows the checkpoint's own bytes, under the names of the result, where nothing else is said
	from    map[string]string    // names in ck that differ from those in the result
	gone    map[string]string    // tensors of ck that are left out, and the step that does
	changed map[string]outChange // by the name in the result
}

// outChange is what a step did to a tensor. The last step stands.
type outChange struct {
	reason, step string
	rounded      bool // values of the view, and not the bytes of copies
}

// storedAs describes a checkpoint after the steps: pruned to c by changes, after weights were trained along where joint, KV heads of c merged, every weight trained.
func storedAs(ck formats.Source, c *source, changes []prune.Change, joint bool, merged []kvmerge.Layer, trained *arch.Model) *stored {
	s := &stored{ck: ck, copies: ck, from: map[string]string{}, gone: map[string]string{}, changed: map[string]outChange{}}
	if len(changes) > 0 || joint {
		s.copies = c.dense
	}
	for _, ch := range changes {
		switch {
		case ch.To == "":
			s.gone[ch.From] = stepPrune
			continue
		case ch.To != ch.From:
			s.from[ch.To] = ch.From
			s.changed[ch.To] = outChange{reason: reasonRenumbered, step: stepPrune}
		}
		if ch.Sliced || ch.Scaled {
			s.changed[ch.To] = outChange{reasonPruned, stepPrune, ch.Scaled}
		}
	}
	for _, p := range c.arch.Parameters() {
		if joint {
			s.changed[p.Name] = outChange{reasonPruned, stepPrune, true}
		}
	}
	for _, name := range kvmerge.Changed(c.arch, merged) {
		s.changed[name] = outChange{reasonMerged, stepMerge, true}
	}
	switch {
	case joint:
		s.dropTiedCopy(c.arch, stepPrune)
	case trained != nil:
		s.dropTiedCopy(c.arch, stepDistill)
	}
	if trained != nil {
		for _, p := range trained.Parameters() {
			s.changed[p.Name] = outChange{reasonTrained, stepDistill, true}
		}
	}
	return s
}

// dropTiedCopy leaves the stored copy of a tied head out.
func (s *stored) dropTiedCopy(m *arch.Model, step string) {
	for _, t := range s.ck.Tensors() {
		if _, gone := s.gone[t.Name]; !gone && isTiedCopy(m, t.Name) {
			s.gone[t.Name] = step
		}
	}
}

// storedAs is the checkpoint after the steps that are decided by now.
func (p *planner) storedAs() *stored {
	return storedAs(p.s.ck, p.c, p.cutChanges, p.r.Prune.joint(), p.m.layers(), p.r.trained(p.t))
}

func (a *applier) storedAs() *stored {
	return storedAs(a.s.ck, a.c, a.cutChanges, a.recipe.Prune.joint(), a.m.layers(), a.recipe.trained(a.t))
}

// trained describes the model whose weights are trained, nil where none are.
func (r *Recipe) trained(t *source) *arch.Model {
	if r.Distill == nil {
		return nil
	}
	return t.arch
}

// origin is the name in the checkpoint of what a tensor of the result is made from.
func (s *stored) origin(name string) string {
	if from, ok := s.from[name]; ok {
		return from
	}
	return name
}

// lookup describes a tensor of the result as the checkpoint stores it.
func (s *stored) lookup(name string) (formats.TensorInfo, bool) {
	t, ok := s.ck.Lookup(s.origin(name))
	t.Name = name
	return t, ok
}
