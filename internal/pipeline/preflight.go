package pipeline

import (
	"fmt"

	"modelpress/internal/arch"
)

// violation is one rule of a target that the planned result would break.
type violation struct {
	target, tensor, rule, fix string
}

func (v violation) String() string {
	where := ""
	if v.tensor != "" {
		where = fmt.Sprintf(" (tensor %q)", v.tensor)
	}
	return fmt.Sprintf("%s%s: %s; fix: %s", v.target, where, v.rule, v.fix)
}

// preflight checks every rule of shapes and of quantized weights that the planned result must keep to load in the targets, before any
// compute. It finds all violations. q is nil where nothing is quantized. What else loaders go by, files and keys that no recipe changes,
// is in the verdicts on the result.
func preflight(m *arch.Model, targets []string, q *quantDecision) []violation {
	var vs []violation
	result := planned(m, q)
	for _, t := range targets {
		c := result.checker(t)
		c.shapes()
		c.weights()
		vs = append(vs, c.violations()...)
	}
	if q != nil {
		vs = append(vs, groupsDivide(m, q)...)
	}
	sortViolations(vs)
	return vs
}

// groupsDivide checks that every quantized matrix divides into groups, as no format can do without.
func groupsDivide(m *arch.Model, q *quantDecision) []violation {
	var vs []violation
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			if !lin.Present() || !q.has(lin.Module()) || q.Group <= 0 || lin.In%q.Group == 0 {
				continue
			}
			vs = append(vs, violation{target: "all", tensor: lin.Weight, fix: groupFix(lin.In),
				rule: fmt.Sprintf("%d inputs do not divide into groups of %d", lin.In, q.Group)})
		}
	}
	return vs
}

// groupFix says which groups a matrix of that many inputs divides into.
func groupFix(in int) string {
	for _, g := range []int{128, 64, 32} {
		if in%g == 0 {
			return fmt.Sprintf("use quantize.group_size %d, or -1 (per channel), or ignore the module", g)
		}
	}
	return "use quantize.group_size -1 (per channel), or ignore the module"
}

func containsInt(list []int, v int) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}
