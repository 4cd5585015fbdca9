package pipeline

import (
	"slices"
	"strings"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// TestParallelSizes has the sizes that work, and why the next one does not.
func TestParallelSizes(t *testing.T) {
	wide := testmodel.Options{Layers: 1, D: 2048, H: 16, G: 8, K: 128, F: 4096}
	with := func(edit func(o *testmodel.Options)) testmodel.Options { o := wide; edit(&o); return o }
	for _, c := range []struct {
		name           string
		model          testmodel.Options
		weights        func(*arch.Model) func(arch.Linear) (WeightFormat, bool)
		works          string
		tensor, reason string // of one that does not work
	}{
		{"plain", wide, nil, "1, 2, 4, 8, 16", "", ""},
		{"heads", with(func(o *testmodel.Options) { o.H, o.G = 12, 4 }), nil, "1, 2, 4", "q_proj", "12 query heads"},
		{"kv split", with(func(o *testmodel.Options) { o.H, o.G = 24, 6 }), nil, "1, 2", "k_proj", "6 KV heads do not divide"},
		{"kv uneven", with(func(o *testmodel.Options) { o.H, o.G = 24, 6 }), nil, "1, 2", "k_proj", "6 KV heads can neither be divided nor repeated evenly"},
		{"one kv head", with(func(o *testmodel.Options) { o.G = 1 }), nil, "1, 2, 4, 8, 16", "", ""},
		{"ffn", with(func(o *testmodel.Options) { o.F = 4100 }), nil, "1, 2, 4", "up_proj", "4100 channels"},
		{"packed", wide, all(pack4), "1, 2, 4, 8, 16", "", ""},
		{"packed, Llama 2's FFN", with(func(o *testmodel.Options) { o.F = 11008 }), all(pack4), "1, 2", "down_proj", "2752 inputs a rank"},
		{"packed, FFN kept", with(func(o *testmodel.Options) { o.F = 11008 }), part(pack4, arch.Q, arch.K, arch.V, arch.O), "1, 2, 4, 8, 16", "", ""},
		{"whole channels", with(func(o *testmodel.Options) { o.F = 11008 }), all(ct(layoutPack, 4, -1, true)), "1, 2", "down_proj", "multiples of 128"},
		{"small heads", with(func(o *testmodel.Options) { o.K, o.H, o.G = 24, 16, 16 }), part(pack4, arch.Q, arch.K, arch.V), "1, 2", "q_proj", "288 outputs a rank"},
		{"AWQ", with(func(o *testmodel.Options) { o.F = 11008 }), all(awq4.with(func(f *WeightFormat) { f.Group = 32 })), "1, 2, 4, 8", "down_proj", "688 inputs a rank"},
		{"FP8 rows", with(func(o *testmodel.Options) { o.F = 11008 }), all(fp8row), "1, 2, 4, 8, 16", "", ""},
		{"FP8 blocks, inputs", with(func(o *testmodel.Options) { o.F = 11008 }), all(fp8blk), "1, 2", "down_proj", "multiples of 128"},
		{"FP8 blocks, outputs", with(func(o *testmodel.Options) { o.K = 64; o.D = 1024 }), part(fp8blk, arch.Q, arch.K, arch.V), "1, 2, 4", "q_proj", "blocks of 128"},
		{"NVFP4", with(func(o *testmodel.Options) { o.F = 4160 }), part(nvfp4s, arch.Down), "1, 2, 4", "down_proj", "520 inputs a rank, and its kernels take multiples of 16"},
	} {
		rc := ruleCase{model: c.model, weights: c.weights}
		v := Verdict{Name: "vllm", TensorParallel: rc.candidate(t).checker("vllm").parallelSizes()}
		if v.Parallel() != c.works {
			t.Errorf("%s: %s, want %s: %+v", c.name, v.Parallel(), c.works, v.TensorParallel)
			continue
		}
		if !slices.ContainsFunc(v.TensorParallel, func(p ParallelSize) bool {
			return p.Works == (c.reason == "") && strings.Contains(p.Tensor, c.tensor) && strings.Contains(p.Reason, c.reason)
		}) {
			t.Errorf("%s: %+v", c.name, v.TensorParallel)
		}
	}
	rc := ruleCase{}
	if got := rc.candidate(t).checker("hf").parallelSizes(); got != nil {
		t.Errorf("hf splits over %v", got)
	}
}

// TestVerdictLines: targets that share a reason share a line, sizes that share one do too, and layers.
func TestVerdictLines(t *testing.T) {
	list := []Verdict{
		{Name: "sglang", Violations: []Finding{{Tensor: "m.0.q", Rule: "odd", Fix: "even it"}, {Tensor: "m.1.q", Rule: "odd", Fix: "even it"}}},
		{Name: "vllm", Conditions: []Finding{{Key: "head_dim", Rule: "null", Fix: "write it"}}, Notes: []string{"slow"},
			TensorParallel: []ParallelSize{{Size: 1, Works: true}, {Size: 2, Tensor: "x", Reason: "no"}, {Size: 4, Tensor: "x", Reason: "no"}, {Size: 8, Reason: "nor"}}},
		{Name: "x", Conditions: []Finding{{Key: "head_dim", Rule: "null", Fix: "write it"}}, Unknown: []Finding{{Rule: "odd", Fix: "look"}}},
	}
	want := `sglang (tensor "m.*.q", * = 0-1): odd; fix: even it
vllm, x, if: head_dim: null; fix: write it
vllm, not over 2 or 4 ranks (tensor "x"): no
vllm, not over 8 ranks: nor
vllm, note: slow
x, not known: odd; fix: look`
	if got := strings.Join(VerdictLines(list, false), "\n"); got != want {
		t.Errorf("%s", got)
	}
	if got := strings.Join(VerdictLines(list, true), "\n"); got != "vllm, x, if: head_dim: null; fix: write it\nx, not known: odd; fix: look" {
		t.Errorf("%s", got)
	}
}
