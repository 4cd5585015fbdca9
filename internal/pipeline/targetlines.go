package pipeline

import (
	"fmt"
	"strings"
)

// Parallel lists the tensor-parallel sizes that work, "-" where there is nothing to say of them.
func (v Verdict) Parallel() string {
	var works []string
	for _, p := range v.TensorParallel {
		if p.Works {
			works = append(works, fmt.Sprint(p.Size))
		}
	}
	if len(works) == 0 {
		return "-"
	}
	return strings.Join(works, ", ")
}

// reason is a line of a verdict: after the names of the targets comes what kind of line it is, then the text.
type reason struct{ kind, text string }

// VerdictLines gives the reasons of verdicts for people. Targets that share one share a line, and so do findings that differ in the number
// of a layer alone. conditions leaves out all but conditions and what is not known.
func VerdictLines(list []Verdict, conditions bool) []string {
	var order []reason
	who := map[reason][]string{}
	for _, v := range list {
		for _, r := range v.reasons(conditions) {
			if who[r] == nil {
				order = append(order, r)
			}
			who[r] = append(who[r], v.Name)
		}
	}
	lines := make([]string, len(order))
	for i, r := range order {
		lines[i] = strings.Join(who[r], ", ") + r.kind + r.text
	}
	return lines
}

func (v Verdict) reasons(conditions bool) []reason {
	var list []reason
	add := func(kind string, findings []Finding) {
		vs := make([]violation, len(findings))
		for i, f := range findings {
			vs[i] = violation{tensor: f.Tensor, rule: f.text(), fix: f.Fix}
		}
		for _, l := range violationLines(vs) {
			list = append(list, reason{kind, l})
		}
	}
	if !conditions {
		add("", v.Violations)
	}
	add(", if", v.Conditions)
	add(", not known", v.Unknown)
	if conditions {
		return list
	}
	list = append(list, v.unsplit()...)
	for _, n := range v.Notes {
		list = append(list, reason{", note: ", n})
	}
	return list
}

// unsplit says why sizes of tensor parallelism do not work; those that fail for one reason share a line.
func (v Verdict) unsplit() []reason {
	var list []reason
	for i := 0; i < len(v.TensorParallel); {
		p := v.TensorParallel[i]
		sizes := []string{fmt.Sprint(p.Size)}
		for i++; i < len(v.TensorParallel) && v.TensorParallel[i].Reason == p.Reason && v.TensorParallel[i].Tensor == p.Tensor; i++ {
			sizes = append(sizes, fmt.Sprint(v.TensorParallel[i].Size))
		}
		if !p.Works {
			list = append(list, reason{", not over ", fmt.Sprintf("%s ranks%s: %s", strings.Join(sizes, " or "), inTensor(p.Tensor), p.Reason)})
		}
	}
	return list
}

func inTensor(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" (tensor %q)", name)
}
