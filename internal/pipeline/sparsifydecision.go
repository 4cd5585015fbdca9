package pipeline

import (
	"encoding/json"
	"fmt"

	"modelpress/formats/planfile"
	"modelpress/internal/arch"
	"modelpress/prune/sparse"
)

// sparsifyDecision is every choice that pruning single weights needs at apply time.
type sparsifyDecision struct {
	Method  string          `json:"method"`
	Pattern string          `json:"pattern"`
	Ratio   json.Number     `json:"ratio"` // share of weights that become 0
	Per     string          `json:"per,omitempty"`
	Block   int             `json:"block"`
	Damp    json.Number     `json:"damp"`
	Modules []string        `json:"modules"`
	Ignored []string        `json:"ignored"`
	set     map[string]bool // Modules as a set
}

// decideSparsify turns the recipe's sparsify section into a decision for a model.
func decideSparsify(m *arch.Model, s *Sparsify) (*sparsifyDecision, error) {
	modules, ignored, err := chooseModules(m, "sparsify", s.Ignore)
	if err != nil {
		return nil, err
	}
	return &sparsifyDecision{Method: s.Method, Pattern: s.Pattern, Ratio: exactly(*s.Ratio), Per: s.Per, Block: s.Block, Damp: exactly(s.Damp),
		Modules: modules, Ignored: ignored}, nil
}

// has reports whether a module is made sparse; nil makes none so.
func (d *sparsifyDecision) has(module string) bool {
	if d == nil {
		return false
	}
	if d.set == nil {
		d.set = make(map[string]bool, len(d.Modules))
		for _, m := range d.Modules {
			d.set[m] = true
		}
	}
	return d.set[module]
}

// needsData reports whether apply must see calibration windows.
func (d *sparsifyDecision) needsData() bool { return d != nil && d.Method != methodMagnitude }

// scheme is the decision as package sparse takes it.
func (d *sparsifyDecision) scheme() (sparse.Scheme, error) {
	ratio, _ := d.Ratio.Float64()
	damp, _ := d.Damp.Float64()
	p, err := sparse.ParsePattern(d.Pattern, ratio)
	return sparse.Scheme{Pattern: p, PerRow: d.Per == perRow, Block: d.Block, Damp: damp}, err
}

// rules checks that every matrix divides into the groups of a pattern.
func (d *sparsifyDecision) rules(m *arch.Model) []violation {
	if d == nil {
		return nil
	}
	var vs []violation
	s, err := d.scheme()
	if err != nil {
		return []violation{{target: "all", rule: err.Error(), fix: "change sparsify.pattern"}}
	}
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			if !lin.Present() || !d.has(lin.Module()) {
				continue
			}
			if err := s.Check(lin.Out, lin.In); err != nil {
				vs = append(vs, violation{target: "all", tensor: lin.Weight, rule: err.Error(),
					fix: "set sparsify.pattern to unstructured, or add the module to sparsify.ignore"})
			}
		}
	}
	return vs
}

// counts returns the weights of the matrices that are made sparse, and how many of them become 0.
func (d *sparsifyDecision) counts(m *arch.Model) (weights, zeros int64) {
	s, err := d.scheme()
	if err != nil { // it was checked
		return 0, 0
	}
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			if lin.Present() && d.has(lin.Module()) {
				weights += int64(lin.Out) * int64(lin.In)
				zeros += int64(s.Zeros(lin.Out, lin.In))
			}
		}
	}
	return weights, zeros
}

func (d *sparsifyDecision) pattern() string {
	s, err := d.scheme()
	if err != nil {
		return d.Pattern
	}
	return s.String()
}

func (d *sparsifyDecision) summary() string {
	return fmt.Sprintf("%d matrices %s by %s, written dense", len(d.Modules), d.pattern(), d.Method)
}

// rows gives one line for what becomes sparse, and one for each reason of the other tensors.
func (d *sparsifyDecision) rows(p *planfile.Plan, m *arch.Model) []planfile.Row {
	weights, zeros := d.counts(m)
	var rows []planfile.Row
	for _, c := range p.Summary() {
		r := planfile.Row{Mark: "=", Scope: fmt.Sprintf("%d tensors", c.Tensors), Text: c.Reason, Delta: c.After - c.Before}
		if c.Reason == reasonSparsified {
			r.Mark, r.Text = "~", fmt.Sprintf("%s by %s: %d of %d weights become 0", d.pattern(), d.Method, zeros, weights)
		}
		rows = append(rows, r)
	}
	return rows
}
