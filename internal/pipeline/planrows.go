package pipeline

import (
	"sort"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/formats/safetensors"
)

// The names and versions of the steps. A version changes whenever the same decision would give other bytes.
const (
	stepPrune    = "prune"
	stepDistill  = "distill"
	stepMerge    = "kvmerge"
	stepHeads    = "heads"
	stepSparsify = "sparsify"
	stepQuantize = "quantize"

	pruneVersion    = 1
	distillVersion  = 1
	mergeVersion    = 1
	headsVersion    = 2
	sparsifyVersion = 1
	quantizeVersion = 2
)

func fileTensor(t formats.TensorInfo) (planfile.Tensor, error) {
	n, err := t.Bytes()
	if err != nil {
		return planfile.Tensor{}, formats.Errorf("model", t.Name, "%w", err)
	}
	return planfile.Tensor{Name: t.Name, DType: t.DType.String(), Shape: t.Shape, Bytes: n}, nil
}

// changeRows pairs every tensor of the source with what the result holds in its place. An output head that was tied stands
// in the row of the embedding.
func changeRows(st *stored, outs []outTensor, embed string) ([]planfile.Change, error) {
	rows := map[string]*planfile.Change{}
	for _, t := range st.ck.Tensors() {
		ft, err := fileTensor(t)
		if err != nil {
			return nil, err
		}
		rows[t.Name] = &planfile.Change{Tensor: t.Name, Before: planfile.Stored{DType: ft.DType, Shape: ft.Shape, Bytes: ft.Bytes}}
	}
	for _, o := range outs {
		ft, err := fileTensor(o.TensorInfo)
		if err != nil {
			return nil, err
		}
		row, ok := rows[o.origin]
		if !ok {
			row = rows[embed]
		}
		row.After = append(row.After, ft)
		if row.Reason == "" {
			row.Reason = o.reason
			row.Step = o.step
		}
	}
	for name, step := range st.gone {
		rows[name].Reason, rows[name].Step = reasonDropped, step
	}
	list := make([]planfile.Change, 0, len(rows))
	for _, name := range sortedKeys(rows) {
		list = append(list, *rows[name])
	}
	return list, nil
}

// outputLayout states the exact files of the result.
func outputLayout(l safetensors.Layout, q *quantDecision, files []planfile.OutputFile) planfile.Output {
	out := planfile.Output{Format: "safetensors", Files: files}
	if q.packs() {
		out.Quantization = q.formatName()
	}
	for i := range l.Shards {
		s := &l.Shards[i]
		header := int64(len(s.Header(nil)))
		sh := planfile.Shard{File: s.Name, Bytes: header + s.DataBytes(), HeaderBytes: header}
		for _, t := range s.Tensors {
			sh.Tensors = append(sh.Tensors, planfile.Placed{Name: t.Name, DType: t.DType.String(), Shape: t.Shape, Offset: t.Begin, Bytes: t.End - t.Begin})
			out.TensorBytes += t.End - t.Begin
		}
		out.FileBytes += sh.Bytes
		out.Shards = append(out.Shards, sh)
	}
	sort.Slice(out.Files, func(i, j int) bool { return out.Files[i].Name < out.Files[j].Name })
	return out
}

// gateRows turns the recipe's gates into bounds.
func gateRows(g Gates) []planfile.Gate {
	var rows []planfile.Gate
	add := func(name string, v float64) {
		if v != 0 {
			rows = append(rows, planfile.Gate{Metric: name, Op: "<=", Bound: v})
		}
	}
	add(metricPPLRatio, g.PPLRatio)
	add(metricKL, g.KL)
	add(metricNeedleDrop, g.NeedleDrop)
	add(metricPlanPPL, g.PlanPPLRatio)
	add(metricPlanKL, g.PlanKL)
	return rows
}

// The metrics that gates bound.
const (
	metricPPLRatio   = "perplexity_ratio"
	metricKL         = "kl_mean"
	metricNeedleDrop = "needle_accuracy_drop"
	metricPlanPPL    = "attention_plan_perplexity_ratio"
	metricPlanKL     = "attention_plan_kl"
)

// targetRows gives the verdict for each target, sorted by name.
func targetRows(names []string, vs []violation, notes map[string][]string) []planfile.Target {
	rows := []planfile.Target{}
	for _, n := range uniqueStrings(append([]string{}, names...)) {
		t := planfile.Target{Name: n, Notes: notes[n]}
		for _, v := range vs {
			if v.target == n || v.target == "all" {
				t.Violations = append(t.Violations, planfile.Violation{Tensor: v.tensor, Rule: v.rule, Fix: v.fix})
			}
		}
		t.Loads = len(t.Violations) == 0
		rows = append(rows, t)
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Name < rows[j].Name })
	return rows
}
