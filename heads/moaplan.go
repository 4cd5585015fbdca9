package heads

import (
	"errors"
	"fmt"
	"strconv"

	"modelpress/formats/manifest"
)

// MoAPlan is a choice of elastic rules that is to become an attention plan.
type MoAPlan struct {
	Rules []manifest.Policy
	Rule  [][]int // [layer][KV head], as [Solution] and [Candidate] have it
	// Loss is what each KV head loses under its rule, in Unit: the evidence that the plan keeps.
	Loss    [][]float64
	Unit    string
	Samples int
	Seed    uint64
	Digest  string // of the data
	// Density is the mean density that was asked for.
	Density float64
	// DecodeOnly leaves prefill dense. MoA prefills under the rules too.
	DecodeOnly bool
}

// TieBreakMoA says how choices of equal loss are told apart.
const TieBreakMoA = "loss asc, layer asc, head asc, rule asc"

// WriteMoA narrows a plan made by [Draft]: every KV head gets its rule, under ids "e0", "e1", … in the order in which layers and heads
// first use them; a rule that keeps every token at each length of the model's context is written as "full". It fills in selection,
// evidence and required features and leaves the rest of the plan alone. A shape other than the plan's is an error, and leaves
// the plan as it was.
func WriteMoA(p *manifest.Plan, m *MoAPlan) error {
	if err := m.check(p); err != nil {
		return err
	}
	ids := make([]string, len(m.Rules))
	for i := range p.Layers {
		e := &p.Layers[i]
		for j := range e.KVHeads {
			h := &e.KVHeads[j]
			r := m.Rule[e.Layer][h.Head]
			if ids[r] == "" {
				ids[r] = m.define(p, r, ids)
			}
			h.Decode, h.Prefill = manifest.Always(ids[r]), ids[r]
			if m.DecodeOnly {
				h.Prefill = PolicyFull
			}
			score := Round(m.Loss[e.Layer][h.Head])
			h.Score = &score
		}
	}
	p.Selection = &manifest.Selection{Method: "moa", TargetFullRatio: m.Density, TieBreak: TieBreakMoA}
	p.Evidence = append(p.Evidence, manifest.Evidence{Method: "moa", Unit: m.Unit, Samples: m.Samples, Seed: m.Seed, DataDigest: m.Digest,
		Scores: roundRows(m.Loss)})
	p.Requires = p.Needs()
	return nil
}

// define enters a rule into the policies of a plan and returns its id. Rules that are the same policy share one.
func (m *MoAPlan) define(p *manifest.Plan, r int, ids []string) string {
	if fullWithin(m.Rules[r], p.Model.MaxPosition) {
		p.Policies[PolicyFull] = manifest.Full()
		return PolicyFull
	}
	used := 0
	for o, id := range ids {
		if id == "" || id == PolicyFull {
			continue
		}
		if sameElastic(m.Rules[o], m.Rules[r]) {
			return id
		}
		n, err := strconv.Atoi(id[1:])
		if err == nil {
			used = max(used, n+1)
		}
	}
	id := "e" + strconv.Itoa(used)
	p.Policies[id] = m.Rules[r]
	return id
}

func sameElastic(a, b manifest.Policy) bool {
	return a.Alpha == b.Alpha && a.Beta == b.Beta && a.Sink == b.Sink && a.Block == b.Block && a.Min == b.Min && a.Length == b.Length
}

// check compares the shapes with the plan's.
func (m *MoAPlan) check(p *manifest.Plan) error {
	if len(m.Rule) != p.Model.Layers || len(m.Loss) != p.Model.Layers || len(p.Layers) != p.Model.Layers {
		return fmt.Errorf("heads: moa plan: rules of %d layers and losses of %d for a plan of %d layers", len(m.Rule), len(m.Loss), p.Model.Layers)
	}
	if m.Unit == "" {
		return errors.New("heads: moa plan: the losses have no unit")
	}
	if !(m.Density >= 0 && m.Density <= 1) {
		return fmt.Errorf("heads: moa plan: density %v", m.Density)
	}
	for _, r := range m.Rules {
		if r.Kind != manifest.KindElastic && r.Kind != manifest.KindFull {
			return fmt.Errorf("heads: moa plan: a rule of kind %q", r.Kind)
		}
	}
	for i := range p.Layers {
		e := &p.Layers[i]
		if e.Layer < 0 || e.Layer >= len(m.Rule) {
			return fmt.Errorf("heads: moa plan: the plan has a layer %d", e.Layer)
		}
		rule, loss := m.Rule[e.Layer], m.Loss[e.Layer]
		if len(rule) != len(e.KVHeads) || len(loss) != len(rule) {
			return fmt.Errorf("heads: moa plan: layer %d: %d rules and %d losses for %d KV heads", e.Layer, len(rule), len(loss), len(e.KVHeads))
		}
		for _, h := range e.KVHeads {
			if h.Head < 0 || h.Head >= len(rule) || rule[h.Head] < 0 || rule[h.Head] >= len(m.Rules) {
				return fmt.Errorf("heads: moa plan: layer %d, KV head %d has no rule among %d", e.Layer, h.Head, len(m.Rules))
			}
		}
	}
	return nil
}
