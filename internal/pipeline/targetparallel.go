package pipeline

import (
	"fmt"

	"modelpress/internal/arch"
)

// parallelRanks are the sizes of tensor parallelism that verdicts look at.
var parallelRanks = []int{1, 2, 4, 8, 16}

// parallelSizes says over how many ranks the weights split, for the targets that split them. Of GGUF, and of weights that are stored in a
// way that is not known, there is nothing to say.
func (c *checker) parallelSizes() []ParallelSize {
	if !c.is("vllm", "sglang", "tensorrt-llm") || c.c.GGUF || c.c.Weights == nil && c.c.facts().quant.method != "" {
		return nil
	}
	list := make([]ParallelSize, len(parallelRanks))
	for i, tp := range parallelRanks {
		tensor, reason := c.c.splits(tp)
		list[i] = ParallelSize{Size: tp, Works: reason == "", Tensor: tensor, Reason: reason}
	}
	return list
}

// splits returns why the model does not split over tp ranks, with the first weight that does not; "" where it does. Heads and channels
// split evenly, KV heads split or are repeated, and every shard of a quantized weight keeps what its kernels ask for.
func (c *Candidate) splits(tp int) (tensor, reason string) {
	for l := range c.Model.Layers {
		a := &c.Model.Layers[l]
		switch {
		case a.H%tp != 0:
			return a.Linears[arch.Q].Weight, fmt.Sprintf("%d query heads do not divide", a.H)
		case a.G >= tp && a.G%tp != 0:
			return a.Linears[arch.K].Weight, fmt.Sprintf("%d KV heads do not divide", a.G)
		case a.G > 0 && a.G < tp && tp%a.G != 0:
			return a.Linears[arch.K].Weight, fmt.Sprintf("%d KV heads can neither be divided nor repeated evenly", a.G)
		case a.F%tp != 0:
			return a.Linears[arch.Up].Weight, fmt.Sprintf("%d channels of the FFN do not divide", a.F)
		}
		if tensor, reason := c.shards(a, tp); reason != "" {
			return tensor, reason
		}
	}
	return "", ""
}

// shards checks the shards of a layer's quantized weights.
func (c *Candidate) shards(a *arch.Layer, tp int) (tensor, reason string) {
	for _, r := range []arch.Role{arch.O, arch.Down} {
		lin := a.Linears[r]
		f, ok := c.stored(lin)
		if step := f.rowStep(); ok && lin.In/tp%step != 0 {
			return lin.Weight, fmt.Sprintf("%d inputs a rank, and its kernels take multiples of %d", lin.In/tp, step)
		}
	}
	heads, kv := a.H/tp, max(1, a.G/tp)
	if tensor, reason = c.columns(a, tp, arch.Q, []int{heads * a.K, kv * a.K, kv * a.K}); reason != "" {
		return tensor, reason
	}
	return c.columns(a, tp, arch.Up, []int{a.F / tp, a.F / tp})
}

// columns checks the outputs that a rank has of projections that are fused, where the first of them is quantized.
func (c *Candidate) columns(a *arch.Layer, tp int, r arch.Role, outs []int) (tensor, reason string) {
	lin := a.Linears[r]
	f, ok := c.stored(lin)
	if !ok {
		return "", ""
	}
	sum := 0
	for _, n := range outs {
		sum += n
		if f.block() && tp > 1 && n%f.Group != 0 {
			return lin.Weight, fmt.Sprintf("%d outputs a rank of a fused projection, and its kernels take blocks of %d", n, f.Group)
		}
	}
	if step := f.columnStep(); sum%step != 0 {
		return lin.Weight, fmt.Sprintf("%d outputs a rank of the fused projections, and its kernels take multiples of %d", sum, step)
	}
	return "", ""
}

// rowStep is what the inputs of a shard have to be multiples of.
func (f WeightFormat) rowStep() int {
	switch {
	case f.Method == methodAWQ, oneOf(f.Layout, layoutNVFP4, layoutMXFP4, layoutMXFP8), f.block():
		return max(1, f.Group)
	case f.integer():
		return max(128, f.Group)
	}
	return 1
}

// columnStep is what the outputs of a shard have to be multiples of.
func (f WeightFormat) columnStep() int {
	switch {
	case f.Method == methodAWQ:
		return 8 // codes of as many outputs share a word
	case f.integer():
		return 64
	}
	return 1
}

// tensorParallel returns the largest tensor-parallel size up to 8 over which the result splits.
func tensorParallel(m *arch.Model, q *quantDecision) int {
	best, result := 1, planned(m, q)
	for _, tp := range parallelRanks {
		if tp > 1 && tp <= 8 {
			if _, reason := result.splits(tp); reason == "" {
				best = tp
			}
		}
	}
	return best
}
