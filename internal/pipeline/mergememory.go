package pipeline

import (
	"modelpress/heads/kvmerge"
	"modelpress/internal/arch"
)

// mergeMemory estimates the bytes resident while KV heads are merged and the result is compared with the source, under a budget; 0
// where nothing is merged. See merger. Planning and applying take the same bound, though applying knows the groups and needs less.
func mergeMemory(s *source, k *KVMerge, set *dataset, states int64) int64 {
	if k == nil || set == nil {
		return 0
	}
	return withGarbage(max(mergeBytes(s, k, set, states), judgeBytes(s, set, 2, states)+mergedViewBytes(s, k)))
}

// usualMergeMemory is mergeMemory for a run without a budget.
func usualMergeMemory(s *source, k *KVMerge, set *dataset) int64 {
	n := mergeBytes(s, k, set, stateMemory)
	return n + n/3
}

// mergedViewBytes is what the steps after merging take more than they would for a model of the merged shape as it is stored: its
// attention projections are in f32, and the view holds maps and parts of tensors; see kvmerge.View.
func mergedViewBytes(s *source, k *KVMerge) int64 {
	if k == nil {
		return 0
	}
	const f32, f64, readers = 4, 8, 4
	most := int64(0)
	for l := range s.arch.Layers {
		a := &s.arch.Layers[l]
		d := int64(s.arch.D)
		n := f32*d*int64(2*a.H*a.K+2*a.G*a.K) + 2*kvmerge.MapsBytes(shapeOf(s.arch, a), s.arch.D) +
			f64*(6+2*readers)*max(int64(a.K)*d, kvmerge.ViewValues, int64(a.H*a.K))
		most = max(most, n)
	}
	return most
}

// solveBytes is what the groups of a layer take while they are priced and solved: under a budget they may be as large as all heads.
func (k *KVMerge) solveBytes(a *arch.Layer) int64 {
	if !a.HasAttention() {
		return 0
	}
	t := a.G
	if k.KVHeads > 0 {
		t = max(1, a.G/k.KVHeads)
	}
	return kvmerge.SolveBytes(t, a.K)
}

func mergeBytes(s *source, k *KVMerge, set *dataset, states int64) int64 {
	const f32, f64 = 4, 8
	z := sizesOf(s)
	layer := int64(0)
	for l := range s.arch.Layers {
		a := &s.arch.Layers[l]
		hk, gk, d := int64(a.H*a.K), int64(a.G*a.K), int64(s.arch.D)
		// Moments of all heads with each other, and groups that are solved; the maps; the view's units.
		solve := f64*gk*gk + 24*gk*int64(a.G) + k.solveBytes(a) + 2*32*gk*int64(a.K) + 8*f64*max(d*int64(a.K), kvmerge.ViewValues)
		fit := int64(0)
		if k.Refit == nil || *k.Refit {
			fit = 20*hk*hk + 3*f64*d*hk + 2*f32*d*hk
		}
		attn := f32 * d * (3*hk + 2*gk) // the merged projections, and the output projection before
		layer = max(layer, attn+max(solve, fit))
	}
	c := set.set.Calib
	kept := min(states, f32*int64(s.arch.D)*int64(c.Tokens()))
	// Two models run a window each.
	return programBytes + z.store*2*z.block + layer + 2*windowBytes(s.arch, c.Longest()) + kept
}
