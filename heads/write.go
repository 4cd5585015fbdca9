package heads

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sort"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// Record says what scores were measured on, for the evidence of a plan.
type Record struct {
	Seed   uint64 // of the prompts or draws
	Digest string // of the data, as [calib.Windows] has it; "" where there is none
}

// writer narrows a plan that [Draft] made. Every planner goes through one, so that several can write into one plan.
type writer struct {
	p *manifest.Plan
	m *arch.Model
}

// newWriter checks that the plan has an entry for each KV head of the model, in their order.
func newWriter(p *manifest.Plan, m *arch.Model) (*writer, error) {
	if len(p.Layers) != len(m.Layers) {
		return nil, fmt.Errorf("heads: a plan with %d entries for %d layers is no draft of the model", len(p.Layers), len(m.Layers))
	}
	for l, e := range p.Layers {
		if e.Layer != l || len(e.KVHeads) != kvHeads(m.Layers[l]) {
			return nil, fmt.Errorf("heads: entry %d of the plan is layer %d with %d KV heads, the model's has %d", l, e.Layer,
				len(e.KVHeads), kvHeads(m.Layers[l]))
		}
		for g := range e.KVHeads {
			if e.KVHeads[g].Head != g {
				return nil, fmt.Errorf("heads: layer %d: entry %d is KV head %d", l, g, e.KVHeads[g].Head)
			}
		}
	}
	return &writer{p, m}, nil
}

// policy adds a policy under an id. An id that stands for another policy already is an error.
func (w *writer) policy(id string, pol manifest.Policy) error {
	old, ok := w.p.Policies[id]
	if ok && !samePolicy(old, pol) {
		return fmt.Errorf("heads: the plan has another policy %q already", id)
	}
	if w.p.Policies == nil {
		w.p.Policies = map[string]manifest.Policy{}
	}
	w.p.Policies[id] = pol
	return nil
}

func samePolicy(a, b manifest.Policy) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// head is the entry of a KV head.
func (w *writer) head(layer, g int) *manifest.KVHead { return &w.p.Layers[layer].KVHeads[g] }

// evidence keeps the scores of a method, in place of what the plan had of that method.
func (w *writer) evidence(list ...manifest.Evidence) {
	for _, e := range list {
		at := slices.IndexFunc(w.p.Evidence, func(old manifest.Evidence) bool { return old.Method == e.Method })
		if at < 0 {
			w.p.Evidence = append(w.p.Evidence, e)
		} else {
			w.p.Evidence[at] = e
		}
	}
}

// finish lists what the plan now needs of a runtime, besides what it listed already.
func (w *writer) finish() {
	need := w.p.Needs()
	for _, f := range w.p.Requires {
		if !slices.Contains(need, f) {
			need = append(need, f)
		}
	}
	sort.Strings(need)
	w.p.Requires = need
}

// page states the size of a cache page, where there is one.
func (w *writer) page(tokens int) {
	if tokens > 1 {
		w.p.Phases.Decode = manifest.DecodePhase{Page: tokens, Round: "up"}
	}
}

// shaped reports an error unless table has a row per layer and a column per KV head.
func shaped[T any](m *arch.Model, what string, table [][]T) error {
	if len(table) != len(m.Layers) {
		return fmt.Errorf("heads: %s of %d layers for a model of %d", what, len(table), len(m.Layers))
	}
	for l, row := range table {
		if len(row) != kvHeads(m.Layers[l]) {
			return fmt.Errorf("heads: layer %d: %s of %d KV heads, the model has %d", l, what, len(row), kvHeads(m.Layers[l]))
		}
	}
	return nil
}
