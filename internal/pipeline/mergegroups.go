package pipeline

import (
	"context"

	"modelpress/formats/manifest"
	"modelpress/heads/kvmerge"
)

// classify tells retrieval heads from others, unless they may share: those that a measure finds, or that the attention plan beside the
// source keeps whole.
func (j *mergeJob) classify(ctx context.Context) error {
	if j.r.KVMerge.Mix {
		return nil
	}
	var err error
	j.d.Retrieval = mergeScore(j.s, j.r)
	if j.d.Retrieval == scorePlan {
		j.classes = planClasses(j.carried)
	} else {
		j.classes, err = j.scoreClasses(ctx)
	}
	j.d.Classes = j.classes
	return err
}

// mergeScore is the measure that tells retrieval heads, "" where none is needed.
func mergeScore(s *source, r *Recipe) string {
	switch k := r.KVMerge; {
	case k.Mix:
		return ""
	case k.Score != auto:
		return k.Score
	case s.carries() && r.Heads == nil: // a recipe that plans heads has no use for it
		return scorePlan
	case r.Retrieval != nil:
		return "wu"
	}
	return "induction"
}

// scoreClasses are 1 for heads whose score reaches the threshold.
func (j *mergeJob) scoreClasses(ctx context.Context) ([][]int, error) {
	h := &headJob{m: j.env.model(j.s), r: j.r, set: j.set, env: j.env}
	defer h.m.Release()
	scores, _, err := h.scores(ctx, j.d.Retrieval)
	if err != nil {
		return nil, unfit("kvmerge", err)
	}
	classes := make([][]int, len(scores.KV))
	for l, row := range scores.KV {
		classes[l] = make([]int, len(row))
		for g, v := range row {
			if v >= j.r.KVMerge.Threshold {
				classes[l][g] = 1
			}
		}
	}
	return classes, nil
}

// planClasses are 1 for heads that an attention plan keeps full.
func planClasses(p *manifest.Plan) [][]int {
	full := fullHeads(p, p.Model.MaxPosition)
	classes := make([][]int, len(full))
	for l, row := range full {
		classes[l] = make([]int, len(row))
		for g, v := range row {
			if v {
				classes[l][g] = 1
			}
		}
	}
	return classes
}

// choose decides who shares in a layer.
func (j *mergeJob) choose(ctx context.Context, l int, st *kvmerge.Stats) error {
	g, found, err := j.group(ctx, l, st.Shape.G, j.sizes[l], st.Costs(j.d.ways()))
	if err != nil {
		return err
	}
	d := &j.d.Layers[l]
	d.Groups, d.Mixed, d.Exact = g, found.Mixed, found.Exact
	d.Key, d.Value, d.Output = "0", "0", "0"
	return nil
}

// group finds the groups of a layer of n KV heads that is to have size, and what they lose.
func (j *mergeJob) group(ctx context.Context, l, n, size int, costs *kvmerge.Costs) (kvmerge.Groups, kvmerge.Found, error) {
	t := n / size
	par := j.env.Device.For
	if j.r.KVMerge.Grouping == groupingContiguous {
		groups := kvmerge.Contiguous(n, t)
		cost, err := costs.Total(groups, par)
		return groups, kvmerge.Found{Cost: cost, Mixed: j.mixed(l, groups)}, err
	}
	s := kvmerge.Grouping{N: n, T: t, Seed: j.r.Seed + uint64(l), Par: costs.Crew(par, t), Cost: func(members []int) float64 {
		if ctx.Err() != nil {
			return 0 // nobody waits for the answer
		}
		return costs.Of(members)
	}}
	if j.classes != nil {
		s.Class = j.classes[l]
	}
	groups, found := s.Solve()
	err := ctx.Err()
	if err == nil {
		err = costs.Err()
	}
	if err == nil && !costs.Exact(t) {
		found.Exact = false
		found.Cost, err = costs.Total(groups, par)
	}
	return groups, found, err
}

// mixed counts groups of more than one class.
func (j *mergeJob) mixed(l int, groups kvmerge.Groups) (n int) {
	if j.classes == nil {
		return 0
	}
	for _, members := range groups {
		for _, g := range members {
			if j.classes[l][g] != j.classes[l][members[0]] {
				n++
				break
			}
		}
	}
	return n
}
