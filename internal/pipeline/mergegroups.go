package pipeline

import (
	"context"

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
		j.classes, err = planClasses(j.s)
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
	case s.carries():
		return scorePlan
	case r.Retrieval != nil:
		return "wu"
	}
	return "induction"
}

// scoreClasses are 1 for heads whose score reaches the threshold.
func (j *mergeJob) scoreClasses(ctx context.Context) ([][]int, error) {
	h := &headJob{m: j.s.model(j.env.Device), r: j.r, set: j.set, env: j.env}
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

// planClasses are 1 for heads that the attention plan beside the source keeps full.
func planClasses(s *source) ([][]int, error) {
	p, err := readCarried(s)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, errKind(KindUsage, "take another measure", "recipe: kvmerge.score plan: the model carries no attention plan")
	}
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
	return classes, nil
}

// choose decides who shares in a layer.
func (j *mergeJob) choose(l int, st *kvmerge.Stats) error {
	g, found, err := j.group(l, st, j.sizes[l])
	if err != nil {
		return err
	}
	d := &j.d.Layers[l]
	d.Groups, d.Mixed, d.Exact = g, found.Mixed, found.Exact
	d.Key, d.Value, d.Output = "0", "0", "0"
	return nil
}

// group finds the groups of a layer that is to have size KV heads.
func (j *mergeJob) group(l int, st *kvmerge.Stats, size int) (kvmerge.Groups, kvmerge.Found, error) {
	n := st.Shape.G
	contiguous := kvmerge.Contiguous(n, n/size)
	if j.r.KVMerge.Grouping == groupingContiguous {
		cost, err := j.cost(st, contiguous)
		return contiguous, kvmerge.Found{Cost: cost, Mixed: j.mixed(l, contiguous)}, err
	}
	var failed firstError
	s := kvmerge.Grouping{N: n, T: n / size, Seed: j.r.Seed + uint64(l), Par: j.env.Device.For, Cost: func(members []int) float64 {
		c, err := st.Cost(members, j.d.ways())
		failed.set(err)
		return c
	}}
	if j.classes != nil {
		s.Class = j.classes[l]
	}
	groups, found := s.Solve()
	return groups, found, failed.get()
}

// cost adds up what groups cost; a head by itself costs nothing.
func (j *mergeJob) cost(st *kvmerge.Stats, groups kvmerge.Groups) (sum float64, err error) {
	for _, members := range groups {
		if len(members) == 1 {
			continue
		}
		c, err := st.Cost(members, j.d.ways())
		if err != nil {
			return 0, err
		}
		sum += c
	}
	return sum, nil
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
