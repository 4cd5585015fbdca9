package pipeline

import (
	"context"
	"errors"

	"modelpress/calib"
	"modelpress/heads/kvmerge"
	"modelpress/internal/nn"
)

// mergeJob decides which KV heads share, and leaves the maps of every layer in a directory for the steps that come after.
type mergeJob struct {
	s       *source
	r       *Recipe
	set     *dataset
	env     Env
	d       *mergeDecision
	classes [][]int // [layer][KV head]; nil where any may share
	sizes   []int   // KV heads that each layer is to have
	dir     string
}

// decideMerge measures, chooses and merges. dir receives the maps; the model as merged is returned beside the decision.
//
// Peak memory: see merger.
func decideMerge(ctx context.Context, s *source, r *Recipe, set *dataset, dir string, env Env) (*mergeDecision, *source, error) {
	j := &mergeJob{s: s, r: r, set: set, env: env, dir: dir, d: &mergeDecision{Refit: *r.KVMerge.Refit, Layers: make([]mergedLayer, len(s.arch.Layers))}}
	w, err := r.KVMerge.ways(s.arch)
	if err != nil {
		return nil, nil, err
	}
	j.d.Keys, j.d.Values = string(w.Key), string(w.Value)
	for _, step := range []func(context.Context) error{j.classify, j.size, j.merge} {
		if err := step(ctx); err != nil {
			return nil, nil, err
		}
	}
	layers := j.d.layers()
	if err := layOut(s.arch, layers, r.KVMerge.Layout); err != nil {
		return nil, nil, err
	}
	for l := range layers {
		j.d.Layers[l].Repeat = layers[l].Repeat
	}
	merged, err := s.merged(j.d, mapFiles{dir: dir, s: s, d: j.d}.load, env.Device.For)
	if err != nil {
		return nil, nil, err
	}
	j.warn()
	if j.d.HeldOut, err = j.measure(ctx, merged); err != nil {
		return nil, nil, err
	}
	return j.d, merged, gateMerge(j.d.HeldOut, r.Gates)
}

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

// size says how many KV heads each layer is to have.
func (j *mergeJob) size(ctx context.Context) error {
	j.sizes = make([]int, len(j.s.arch.Layers))
	if k := j.r.KVMerge; k.KVBudget != nil {
		return j.spread(ctx, *k.KVBudget)
	}
	for l := range j.sizes {
		if j.s.arch.Layers[l].HasAttention() {
			j.sizes[l] = j.r.KVMerge.KVHeads
		}
	}
	return nil
}

// merge carries the windows through and writes the maps of each layer.
func (j *mergeJob) merge(ctx context.Context) error {
	windows := j.set.set.Calib.IDs
	m := newMerger(j.s, j.d, windows, j.env)
	m.choose = j.choose
	tick, stop := counter(j.env.Progress, "merging kv heads")
	defer stop()
	done, total := 0, len(windows)*len(j.s.arch.Layers)
	m.tick = func() { done++; tick(done, total) }
	return withStates(j.env, windows, j.s.arch.D, func(st *nn.States) error {
		if err := m.embed(ctx, st.Put); err != nil {
			return err
		}
		for l := range j.s.arch.Layers {
			maps, err := m.layer(ctx, l, st.Get, st.Put)
			if err != nil {
				return unfit("kvmerge", err)
			}
			if maps != nil {
				if _, err := (mapFiles{dir: j.dir}).save(l, maps); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// withStates calls f with room for the states of windows.
func withStates(env Env, windows [][]int32, d int, f func(st *nn.States) error) error {
	lengths := make([]int, len(windows))
	for i, w := range windows {
		lengths[i] = len(w)
	}
	st, err := nn.NewStates(env.Scratch, lengths, d, env.stateLimit())
	if err != nil {
		return err
	}
	return errors.Join(f(st), st.Close())
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

// measure compares source and merged model on the held-out side.
func (j *mergeJob) measure(ctx context.Context, merged *source) ([]metric, error) {
	list := []metric{}
	src, m := j.s.model(j.env.Device), merged.model(j.env.Device)
	if w := j.set.set.Heldout; len(w.IDs) > 0 {
		tick, stop := counter(j.env.Progress, "held-out text, merged")
		c, err := calib.Compare(ctx, src, m, w, j.env.eval(nil, tick))
		stop()
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

// gateMerge fails a merged model that is beyond the gates of the result already: what comes after brings nothing back.
func gateMerge(list []metric, g Gates) error {
	c := costOf(list)
	var f faults
	for _, b := range []struct {
		name         string
		value, bound float64
		measured     bool
	}{{metricPPLRatio, c.ratio, g.PPLRatio, c.text}, {metricKL, c.kl, g.KL, c.text}, {metricNeedleDrop, c.drop, g.NeedleDrop, c.needles}} {
		f.add(b.bound != 0 && b.measured && b.value > b.bound+gateSlack, "gate %s: merging KV heads alone reaches %s on held-out data, want at most %v", b.name, number(b.value), b.bound)
	}
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: KindGate, Err: sortedJoin(f), Hint: "keep more KV heads (kv_heads, kv_budget), or loosen the gates"}
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
	if mixed > 0 {
		j.env.warn("%d of %d groups mix retrieval heads with others, since their numbers do not divide", mixed, groups)
	}
	if t := j.set.set.Calib.Tokens(); j.d.Refit && t < 4*widest {
		j.env.warn("%d calibration tokens are few to refit outputs of %d inputs: give %d or more, or set kvmerge.refit to false", t, widest, 4*widest)
	}
}
