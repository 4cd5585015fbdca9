package pipeline

import (
	"slices"
	"strings"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// TestMergedRules: twelve heads merged to some number, for targets and sizes of tensor parallelism.
func TestMergedRules(t *testing.T) {
	before, err := arch.DescribeConfig(testmodel.New(testmodel.Options{D: 96, H: 12}).Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kv       int
		target   string
		parallel []int
		want     string
	}{
		{6, "hf", nil, ""},
		{6, "llama.cpp", nil, ""},
		{6, "vllm", nil, "6 KV heads: its parallel layouts take powers of two; fix: merge to 4 or a smaller power of two"},
		{3, "sglang", nil, "merge to 4 or a smaller power of two"},
		{3, "tensorrt-llm", nil, "merge to 4 or a smaller power of two"},
		{4, "vllm", nil, ""},
		{1, "vllm", []int{2, 4}, ""},
		{4, "vllm", []int{2, 4}, ""},
		{4, "vllm", []int{8}, "12 query and 4 KV heads do not divide over 8 ranks"},
		{6, "hf", []int{4}, "12 query and 6 KV heads do not divide over 4 ranks"},
		{12, "vllm", []int{8}, ""}, // nothing was merged
	} {
		after := before.Clone()
		for l := range after.Layers {
			after.Layers[l].G = c.kv
		}
		vs := mergedRules(before, after, []string{c.target}, &KVMerge{TensorParallel: c.parallel})
		switch {
		case c.want == "" && len(vs) > 0:
			t.Errorf("%d for %s over %v: %v", c.kv, c.target, c.parallel, vs)
		case c.want != "" && (len(vs) != 1 || !strings.Contains(vs[0].String(), c.want)):
			t.Errorf("%d for %s over %v: %v, want %q", c.kv, c.target, c.parallel, vs, c.want)
		}
	}
}

// TestHeadCounts: odd factors go first, so that powers of two are among the choices.
func TestHeadCounts(t *testing.T) {
	for g, want := range map[int][]int{1: {1}, 2: {2, 1}, 3: {3, 1}, 8: {8, 4, 2, 1}, 9: {9, 3, 1}, 12: {12, 4, 2, 1}, 15: {15, 5, 1}, 40: {40, 8, 4, 2, 1}} {
		if got := headCounts(g); !slices.Equal(got, want) {
			t.Errorf("%d heads: %v, want %v", g, got, want)
		}
	}
}
