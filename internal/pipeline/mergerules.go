package pipeline

import (
	"fmt"
	"math/bits"

	"modelpress/internal/arch"
)

// mergedRules checks what loaders ask of the KV heads that merging leaves, m before and t after it: groups of tensor parallelism over
// which heads divide, and numbers that are powers of two, which serving kernels and their parallel layouts are made for.
func mergedRules(m, t *arch.Model, targets []string, k *KVMerge) []violation {
	var vs []violation
	for _, target := range uniqueStrings(append([]string{}, targets...)) {
		c := (&Candidate{Model: t}).checker(target)
		c.mergedHeads(m, k.TensorParallel)
		vs = append(vs, c.violations()...)
	}
	sortViolations(vs)
	return vs
}

func (c *checker) mergedHeads(before *arch.Model, parallel []int) {
	for l := range c.m.Layers {
		a := &c.m.Layers[l]
		if !a.HasAttention() || a.G == before.Layers[l].G {
			continue
		}
		k := a.Linears[arch.K].Weight
		if oneOf(c.target, "vllm", "sglang", "tensorrt-llm") && bits.OnesCount(uint(a.G)) != 1 {
			c.refuse(ruleMergedPower, atTensor(k), fmt.Sprintf("merge to %d or a smaller power of two", 1<<bits.TrailingZeros(uint(before.Layers[l].G))), "%d KV heads: its parallel layouts take powers of two", a.G)
			return
		}
		for _, tp := range parallel {
			if a.H%tp != 0 || a.G >= tp && a.G%tp != 0 || a.G < tp && tp%a.G != 0 {
				c.refuse(ruleMergedParallel, atTensor(k), "choose another number of KV heads, or drop the size from kvmerge.tensor_parallel", "%d query and %d KV heads do not divide over %d ranks", a.H, a.G, tp)
				return
			}
		}
	}
}
