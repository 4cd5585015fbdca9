package pipeline

import "context"

// judge measures the merged model on the held-out side, and fails one that is beyond the gates already.
func (j *mergeJob) judge(ctx context.Context, merged *source) (err error) {
	if j.d.HeldOut, err = j.measure(ctx, merged); err != nil {
		return err
	}
	if j.r.Distill != nil { // which is there to bring back what is lost
		return nil
	}
	return gateStep(j.d.HeldOut, j.r.Gates, "merging KV heads", "keep more KV heads (kv_heads, kv_budget), or loosen the gates")
}

// measure compares source and merged model on the held-out side.
func (j *mergeJob) measure(ctx context.Context, merged *source) ([]metric, error) {
	list := []metric{}
	src, m := j.env.model(j.s), j.env.model(merged)
	defer src.Release()
	defer m.Release()
	if w := j.set.set.Heldout; len(w.IDs) > 0 {
		c, err := compare(ctx, src, m, w, j.env, "held-out text, merged")
		if err != nil {
			return nil, err
		}
		list = append(list, metric{namePerplexity, number(c.Ref.PPL), number(c.Model.PPL)}, metric{nameKL, "0", number(c.KL)})
	}
	if len(j.set.held) > 0 {
		before, err := retrieval(ctx, src, j.set.held, nil, j.env, "needles, source")
		if err != nil {
			return nil, err
		}
		after, err := retrieval(ctx, m, j.set.held, nil, j.env, "needles, merged")
		if err != nil {
			return nil, err
		}
		list = append(list, metric{nameNeedle, number(before.Accuracy), number(after.Accuracy)})
	}
	return list, nil
}

// uniform reports whether all layers that attend are written with the same number of KV heads.
func (j *mergeJob) uniform() bool {
	n := 0
	for l, d := range j.d.Layers {
		if !j.s.arch.Layers[l].HasAttention() {
			continue
		}
		g := len(d.Groups) * max(1, d.Repeat)
		if n > 0 && g != n {
			return false
		}
		n = g
	}
	return true
}

// gateStep fails a model that is beyond the gates of the result after a step already: what comes after brings nothing back.
func gateStep(list []metric, g Gates, step, hint string) error {
	c := costOf(list)
	var f faults
	for _, b := range []struct {
		name         string
		value, bound float64
		measured     bool
	}{{metricPPLRatio, c.ratio, g.PPLRatio, c.text}, {metricKL, c.kl, g.KL, c.text}, {metricNeedleDrop, c.drop, g.NeedleDrop, c.needles}} {
		f.add(b.bound != 0 && b.measured && b.value > b.bound+gateSlack, "gate %s: %s alone reaches %s on held-out data, want at most %v", b.name, step, number(b.value), b.bound)
	}
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: KindGate, Err: sortedJoin(f), Hint: hint}
}

// warn says where the result will disappoint.
func (j *mergeJob) warn() {
	mixed, groups, widest, repeated := 0, 0, 0, false
	before, after := int64(0), int64(0)
	for l, d := range j.d.Layers {
		a := &j.s.arch.Layers[l]
		if !a.HasAttention() {
			continue
		}
		mixed += d.Mixed
		groups += len(d.Groups)
		widest = max(widest, a.H*a.K)
		repeated = repeated || oneHeadCount(a) && d.Repeat > 1
		before += int64(a.G * a.K)
		after += int64(len(d.Groups) * max(1, d.Repeat) * a.K)
	}
	if repeated {
		j.env.warn("%s has one number of heads for queries, keys and values: merged heads are repeated, and its cache stays as large", j.s.arch.Family)
	} else if b := j.r.KVMerge.KVBudget; b != nil && after > budgetOf(before, *b) {
		j.env.warn("the portable layout writes all layers with as many KV heads as the largest: %.4f of the cache, of which kv_budget is %v; set kvmerge.layout to compact, or give kv_heads",
			float64(after)/float64(before), *b)
	}
	switch {
	case mixed > 0 && j.r.KVMerge.Grouping == groupingContiguous:
		j.env.warn("%d of %d groups mix retrieval heads with others; set kvmerge.grouping to cost to keep them apart", mixed, groups)
	case mixed > 0:
		j.env.warn("%d of %d groups mix retrieval heads with others, since their numbers do not divide", mixed, groups)
	}
	if j.r.KVMerge.Layout == layoutCompact && after < before && !j.uniform() {
		j.env.warn("the number of KV heads differs between layers: only GGUF of architecture deci can hold that; set kvmerge.layout to portable for anything else")
	}
	if t := j.set.set.Calib.Tokens(); j.d.Refit && t < 4*widest {
		j.env.warn("%d calibration tokens are few to refit outputs of %d inputs: give %d or more, or set kvmerge.refit to false", t, widest, 4*widest)
	}
}
