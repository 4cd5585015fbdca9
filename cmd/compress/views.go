package main

import (
	"fmt"
	"strconv"
	"strings"

	"modelpress/formats/planfile"
	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

// showPlan prints a plan: a line per step and reason, and with detail a line per tensor.
func (a *app) showPlan(p *planfile.Plan, detail bool) {
	before, after := p.Totals()
	a.ui.Show(ui.Result{Name: "plan", Data: p, Lines: []string{fmt.Sprintf("compress plan  %s  %d tensors, %s, %s",
		p.Source.Architecture, len(p.Source.Tensors), ui.Bytes(before), short(p.Source.WeightsDigest))}})
	var rows []ui.PlanRow
	for _, s := range p.Steps {
		for _, r := range s.Rows {
			rows = append(rows, ui.PlanRow{Step: s.Name, Mark: r.Mark, Scope: r.Scope, Text: r.Text, Delta: r.Delta})
		}
	}
	a.ui.Rows(rows)
	if detail {
		a.ui.Show(ui.Result{Name: "changes", Data: p.Changes, Table: changeTable(p)})
	}
	var loads []string
	for _, t := range p.Targets {
		if t.Loads {
			loads = append(loads, strings.TrimSpace(t.Name+" "+parens(t.Notes)))
		}
	}
	a.ui.Show(ui.Result{Name: "summary", Lines: []string{fmt.Sprintf("Plan: %s. %s -> %s (exact). Loads in: %s.", planCounts(p), ui.Bytes(before),
		ui.Bytes(after), strings.Join(loads, ", "))}})
}

func parens(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return "(" + strings.Join(notes, "; ") + ")"
}

// planCounts says how many source tensors change and how many are kept.
func planCounts(p *planfile.Plan) string {
	var parts []string
	kept := 0
	for _, c := range p.Summary() {
		if strings.HasPrefix(c.Reason, "kept") || c.Reason == "not_part_of_the_model" {
			kept += c.Tensors
			continue
		}
		parts = append(parts, fmt.Sprintf("%d %s", c.Tensors, strings.ReplaceAll(c.Reason, "_", " ")))
	}
	return strings.Join(append(parts, fmt.Sprintf("%d kept", kept)), ", ")
}

func changeTable(p *planfile.Plan) *ui.Table {
	t := &ui.Table{Head: []string{"tensor", "before", "after", "bytes", "reason"}, Right: []bool{false, false, false, true, false}}
	for _, c := range p.Changes {
		var after []string
		for _, x := range c.After {
			after = append(after, x.DType+shape(x.Shape))
		}
		t.Rows = append(t.Rows, []string{c.Tensor, c.Before.DType + shape(c.Before.Shape), strings.Join(after, " "), ui.Delta(c.AfterBytes() - c.Before.Bytes), c.Reason})
	}
	return t
}

func shape(s []int64) string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = strconv.FormatInt(d, 10)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// showReport prints what apply did: bytes, quality, gates, fallbacks.
func (a *app) showReport(r *pipeline.Report) {
	lines := []string{fmt.Sprintf("tensors  %s -> %s", ui.Bytes(r.BytesBefore), ui.Bytes(r.BytesAfter))}
	lines = append(lines, r.QualityLines()...)
	if len(r.FellBack) > 0 {
		lines = append(lines, fmt.Sprintf("%d matrices fell back to %s: %s", len(r.FellBack), r.Plainer(), strings.Join(r.FellBack, ", ")))
	}
	a.ui.Show(ui.Result{Name: "report", Data: r, Lines: lines})
	for _, g := range r.Gates {
		v, _ := g.Value.Float64()
		a.ui.Show(ui.Gate{Metric: g.Metric, Op: g.Op, Bound: g.Bound, Value: v, Passed: g.Passed})
	}
}

// showVerification prints the faults and fails where there are any.
func (a *app) showVerification(dir string, v *pipeline.Verification) error {
	lines := []string{fmt.Sprintf("%s: %d files, %s, %s", dir, v.Files, ui.Bytes(v.Bytes), short(v.Report.WeightsDigest))}
	for _, f := range v.Faults {
		lines = append(lines, "  "+f)
	}
	a.ui.Show(ui.Result{Name: "verification", Data: v, Lines: lines})
	if len(v.Faults) > 0 {
		return pipeline.Failed("%s does not verify: %d faults", dir, len(v.Faults))
	}
	a.say("verified: digests, shapes and attention plan agree")
	return nil
}

func (a *app) showEvaluation(e *pipeline.Evaluation) {
	a.ui.Show(ui.Result{Name: "evaluation", Data: e, Lines: e.Lines()})
}
