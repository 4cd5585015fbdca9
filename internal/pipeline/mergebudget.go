package pipeline

import (
	"context"
	"errors"

	"modelpress/heads/kvmerge"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// spread chooses how many KV heads each layer keeps so that all together take no more than a share of the cache and the layers'
// outputs lose least, each against the energy of the residual stream that it is added to. Costs are those of layers merged one by
// one, in the model as it is.
func (j *mergeJob) spread(ctx context.Context, share float64) error {
	m := j.s.arch
	choices := make([][]kvmerge.Choice, len(m.Layers))
	width := make([]int, len(m.Layers))
	total := int64(0)
	for l := range m.Layers {
		if a := &m.Layers[l]; a.HasAttention() {
			width[l] = a.K
			total += int64(a.G * a.K)
		}
	}
	if err := j.price(ctx, choices); err != nil {
		return err
	}
	chosen, err := kvmerge.Spread(choices, width, budgetOf(total, share))
	var over *kvmerge.BudgetError
	if errors.As(err, &over) {
		return errKind(KindUsage, "raise it", "recipe: kvmerge.kv_budget %v: one KV head a layer takes %.4f of the cache", share, float64(over.Least)/float64(total))
	}
	if err != nil {
		return err
	}
	for l, c := range chosen {
		if c >= 0 {
			j.sizes[l] = choices[l][c].Heads
		}
	}
	return nil
}

// price finds what each layer loses with each number of KV heads that it can have.
func (j *mergeJob) price(ctx context.Context, choices [][]kvmerge.Choice) error {
	windows := j.set.set.Calib.IDs
	d := &mergeDecision{Keys: j.d.Keys, Values: j.d.Values, Layers: make([]mergedLayer, len(choices))}
	r := newMerger(j.s, d, windows, j.env)
	defer r.free()
	r.choose = func(ctx context.Context, l int, st *kvmerge.Stats) error {
		costs := st.Costs(j.d.ways())
		for _, n := range headCounts(j.s.arch.Layers[l].G) {
			cost := 0.0
			if n < st.Shape.G {
				_, found, err := j.group(ctx, l, st.Shape.G, n, costs)
				if err != nil {
					return err
				}
				cost = found.Cost
			}
			choices[l] = append(choices[l], kvmerge.Choice{Heads: n, Cost: cost})
		}
		return nil
	}
	tick, stop := counter(j.env.Progress, "pricing kv heads")
	defer stop()
	done, total := 0, len(windows)*len(choices)
	r.tick = func() { done++; tick(done, total) }
	return withStates(j.env, windows, j.s.arch.D, func(st *nn.States) error {
		st.OnDevice(r.src, r.longest(), false)
		if err := r.embed(ctx, inStates{st}); err != nil {
			return err
		}
		for l := range choices {
			in := &metered{inStates: inStates{st}}
			if _, err := r.layer(ctx, l, in, inStates{st}); err != nil {
				return unfit("kvmerge", err)
			}
			energy := in.energy
			for i := range choices[l] {
				if energy > 0 {
					choices[l][i].Cost *= float64(j.set.set.Calib.Tokens()) / energy
				}
			}
		}
		return nil
	})
}

// headCounts lists the numbers of KV heads that g can be merged to, each a divisor of the one before: odd factors go first, since
// powers of two are what serving kernels take.
func headCounts(g int) []int {
	out := []int{g}
	for p := 3; g&(g-1) != 0; {
		if g%p != 0 {
			p += 2
			continue
		}
		g /= p
		out = append(out, g)
	}
	for g > 1 {
		g /= 2
		out = append(out, g)
	}
	return out
}

// metered adds up the squares of the states that are loaded, of each window once: a layer reads its windows more than once.
type metered struct {
	inStates
	energy float64
	seen   int
}

func (s *metered) load(dev device.Device, i int, x device.Buf, off int) error {
	if err := s.inStates.load(dev, i, x, off); err != nil || i < s.seen {
		return err
	}
	s.seen = i + 1
	v, err := s.View(i)
	for _, v := range v {
		s.energy += float64(v) * float64(v)
	}
	return err
}
