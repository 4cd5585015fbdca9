package manifest

import (
	"fmt"
	"strconv"
)

func (v *validator) selection(s *Selection) {
	if s == nil {
		return
	}
	v.check(s.Method != "", "selection.method", "is empty")
	v.check(s.TargetFullRatio >= 0 && s.TargetFullRatio <= 1, "selection.target_full_ratio", "%v is not in [0, 1]", s.TargetFullRatio)
	v.check(s.TiesAtCut >= 0, "selection.ties_at_cut", "is negative")
	if s.CutScore != nil {
		v.finite("selection.cut_score", *s.CutScore)
	}
}

func (v *validator) budget(b *Budget) {
	if b == nil {
		return
	}
	v.check(b.KVBytesPerToken >= 0, "budget.kv_bytes_per_token", "is negative")
	for _, k := range sortedKeys(b.KVBytesAt) {
		v.count("budget.kv_bytes_at", k)
		v.check(b.KVBytesAt[k] >= 0, "budget.kv_bytes_at."+k, "is negative")
	}
	for _, k := range sortedKeys(b.DensityAt) {
		v.count("budget.density_at", k)
		v.check(b.DensityAt[k] >= 0 && b.DensityAt[k] <= 1, "budget.density_at."+k, "%v is not in [0, 1]", b.DensityAt[k])
	}
	for _, k := range sortedKeys(b.TensorParallel) {
		v.count("budget.tensor_parallel", k)
		v.check(strconv.Itoa(len(b.TensorParallel[k])) == k, "budget.tensor_parallel."+k, "%d ranks", len(b.TensorParallel[k]))
		for _, n := range b.TensorParallel[k] {
			v.check(n >= 0, "budget.tensor_parallel."+k, "a count is negative")
		}
	}
}

// count checks a key that stands for a positive number.
func (v *validator) count(path, key string) {
	n, err := strconv.Atoi(key)
	v.check(err == nil && n > 0 && strconv.Itoa(n) == key, path+"."+key, "key is no positive number")
}

func (v *validator) quality(q *Quality) {
	if q == nil {
		return
	}
	v.check(q.Gate.MaxDrop >= 0, "quality.gate.max_drop", "%v is not at least 0", q.Gate.MaxDrop)
	v.check(q.Gate.MaxRise == nil || *q.Gate.MaxRise >= 0, "quality.gate.max_rise", "is negative")
	v.check(!q.Passed || len(q.Metrics) > 0, "quality.passed", "is true with no metric")
	for i, m := range q.Metrics {
		path := fmt.Sprintf("quality.metrics[%d]", i)
		v.check(m.Name != "", path+".name", "is empty")
		v.oneOf(path+".better", m.Better, "", "higher", "lower")
		v.finite(path+".dense", m.Dense)
		v.finite(path+".plan", m.Plan)
		v.check(!q.Passed || q.Gate.Passes(m), path, "%s fails the gate, and passed is true", m.Name)
	}
}

// Passes reports whether a metric keeps the gate. A rounding error of 1e-9 is forgiven.
func (g Gate) Passes(m Metric) bool {
	if m.Better == "lower" {
		return g.MaxRise == nil || m.Plan <= m.Dense*(1+*g.MaxRise)+1e-9
	}
	return m.Plan >= m.Dense-g.MaxDrop-1e-9
}

// per is Per, spelled out.
func (e *Evidence) per() string {
	if e.Per == "" {
		return PerKVHead
	}
	return e.Per
}

// scores returns how many scores a layer has.
func (v *validator) scores(p *Plan, layer int, per string) int {
	heads, kvHeads := v.counts(p, layer)
	switch per {
	case PerQHead:
		return heads
	case PerLayer:
		return 1
	}
	return kvHeads
}

func (v *validator) evidence(p *Plan) {
	for i, e := range p.Evidence {
		path := fmt.Sprintf("evidence[%d]", i)
		v.check(e.Method != "", path+".method", "is empty")
		v.check(e.Unit != "", path+".unit", "is empty")
		v.check(e.Samples >= 0, path+".samples", "is negative")
		v.oneOf(path+".per", e.Per, "", PerKVHead, PerQHead, PerLayer)
		if e.DataDigest != "" {
			v.digest(path+".data_digest", e.DataDigest, "sha256:")
		}
		v.check(len(e.Scores) == 0 || len(e.Scores) == p.Model.Layers, path+".scores", "%d layers, the model has %d", len(e.Scores), p.Model.Layers)
		for l, row := range e.Scores {
			v.check(len(row) == 0 || len(row) == v.scores(p, l, e.Per), fmt.Sprintf("%s.scores[%d]", path, l), "%d scores per %s", len(row), e.per())
			for g, s := range row {
				v.finite(fmt.Sprintf("%s.scores[%d][%d]", path, l, g), s)
			}
		}
	}
}
