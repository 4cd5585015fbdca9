package pipeline

import (
	"context"
	"errors"

	"modelpress/formats/manifest"
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
	carried *manifest.Plan // the attention plan beside the source; nil where it is not asked
}

// decide chooses and merges, and leaves the maps in the job's directory. It returns the model as merged.
//
// Peak memory: see merger.
func (j *mergeJob) decide(ctx context.Context) (*source, error) {
	s, r := j.s, j.r
	j.d = &mergeDecision{Refit: *r.KVMerge.Refit, Layers: make([]mergedLayer, len(s.arch.Layers))}
	w, err := r.KVMerge.ways(s.arch)
	if err != nil {
		return nil, err
	}
	j.d.Keys, j.d.Values = string(w.Key), string(w.Value)
	for _, step := range []func(context.Context) error{j.classify, j.size, j.merge} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	layers := j.d.layers()
	if err := layOut(s.arch, layers, r.KVMerge.Layout); err != nil {
		return nil, err
	}
	for l := range layers {
		j.d.Layers[l].Repeat = layers[l].Repeat
	}
	j.warn()
	return s.merged(j.d, mapFiles{dir: j.dir, s: s, d: j.d}.load, j.env.Device.For)
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
	defer m.free()
	m.choose = j.choose
	tick, stop := counter(j.env.Progress, "merging kv heads")
	defer stop()
	done, total := 0, len(windows)*len(j.s.arch.Layers)
	m.tick = func() { done++; tick(done, total) }
	return withStates(j.env, windows, j.s.arch.D, func(st *nn.States) error {
		st.OnDevice(m.src, m.longest(), false)
		if err := m.embed(ctx, inStates{st}); err != nil {
			return err
		}
		for l := range j.s.arch.Layers {
			maps, err := m.layer(ctx, l, inStates{st}, inStates{st})
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
