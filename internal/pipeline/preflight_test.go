package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// describe makes the description of a random model.
func describe(t *testing.T, o testmodel.Options) *arch.Model {
	t.Helper()
	m := testmodel.New(o)
	a, err := arch.Describe(m.Config, m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestPreflight has every rule of every target. A case names the target, the model, the quantize section and what is found; no
// finding means that the result loads.
func TestPreflight(t *testing.T) {
	good := testmodel.Options{D: 256, H: 4, G: 2, K: 64, F: 512, V: 64}
	with := func(edit func(o *testmodel.Options)) testmodel.Options {
		o := good
		edit(&o)
		return o
	}
	for _, c := range []struct {
		target, section string
		model           testmodel.Options
		want            []string
	}{
		{"hf", "", good, nil},
		{"vllm", "", good, nil},
		{"mlx", "", good, nil},
		{"tensorrt-llm", "", good, nil},
		{"hf", "{group_size: 128}", good, nil},
		{"vllm", "{group_size: 128}", good, nil},
		{"sglang", "{group_size: -1}", good, nil},
		{"llama.cpp", "{group_size: 64}", good, nil},
		{"mlx", "{bits: 3, group_size: 64}", good, nil},
		{"vllm", "{bits: 2, group_size: 32}", good, nil},

		{"hf", "", with(func(o *testmodel.Options) { o.H, o.G, o.K = 3, 3, 64 }), []string{"hf: hidden size 256 is not a multiple of 3 heads"}},
		{"vllm", "", with(func(o *testmodel.Options) { o.H, o.G, o.K = 3, 3, 64 }), []string{"vllm: hidden size 256 is not a multiple of 3 heads"}},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.H, o.G, o.K = 3, 3, 64 }), nil},
		{"hf", "", with(func(o *testmodel.Options) { o.PerLayer = map[int]testmodel.Sizes{1: {F: 256}} }), []string{"layer 1 has other head counts or FFN width than layer 0"}},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.PerLayer = map[int]testmodel.Sizes{1: {F: 256}} }), nil},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.PerLayer = map[int]testmodel.Sizes{1: {H: 2, G: 1}} }), nil},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.PerLayer = map[int]testmodel.Sizes{1: {H: 6, G: 3, F: 101}} }), nil},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.PerLayer = map[int]testmodel.Sizes{1: {NoAttention: true}} }), nil},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.PerLayer = map[int]testmodel.Sizes{0: {NoAttention: true}} }), []string{"layer 1 has other head counts"}},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.PerLayer = map[int]testmodel.Sizes{1: {NoFeedFwd: true}} }), []string{"layer 1 has other head counts or FFN width than layer 0"}},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.Bias, o.PerLayer = true, map[int]testmodel.Sizes{1: {F: 256}} }), nil},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.Bias, o.PerLayer = true, map[int]testmodel.Sizes{1: {H: 2, G: 1}} }), []string{"layer 1 has other head counts"}},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.Bias, o.PerLayer = true, map[int]testmodel.Sizes{0: {H: 2, G: 1}} }), []string{"layer 1 has other head counts"}},
		{"vllm", "", with(func(o *testmodel.Options) { o.PerLayer = map[int]testmodel.Sizes{1: {H: 2, G: 1}} }), []string{"layer 1 has other head counts or FFN width than layer 0", "set prune.layout to portable"}},
		{"llama.cpp", "", with(func(o *testmodel.Options) { o.Family, o.PerLayer = "mistral", map[int]testmodel.Sizes{1: {F: 256}} }), []string{"layer 1 has other head counts or FFN width than layer 0", "set prune.layout to portable"}},
		{"hf", "{group_size: 128}", with(func(o *testmodel.Options) { o.D, o.K = 288, 72 }), []string{
			`all (tensor "model.layers.0.self_attn.q_proj.weight"): 288 inputs do not divide into groups of 128; fix: use quantize.group_size 32, or -1`,
			`all (tensor "model.layers.1.self_attn.o_proj.weight"): 288 inputs do not divide`}},
		{"hf", "{bits: 3, group_size: 128}", with(func(o *testmodel.Options) { o.F = 320 }), []string{"320 inputs do not divide into groups of 128; fix: use quantize.group_size 64, or"}},
		{"hf", "{group_size: 64}", with(func(o *testmodel.Options) { o.F = 520 }), []string{`"model.layers.0.mlp.down_proj.weight"): 520 inputs do not divide into groups of 64`}},
		{"vllm", "{group_size: 64}", with(func(o *testmodel.Options) { o.F = 576 }), []string{`vllm (tensor "model.layers.0.mlp.down_proj.weight"): its int4/int8 kernels need outputs in multiples of 64 and inputs in multiples of 128, not 256 x 576`}},
		{"sglang", "{group_size: 64}", with(func(o *testmodel.Options) { o.K, o.H, o.G = 32, 4, 1 }), []string{`sglang (tensor "model.layers.0.self_attn.k_proj.weight"): its int4/int8 kernels need outputs in multiples of 64 and inputs in multiples of 128, not 32 x 256`}},
		{"vllm", "{group_size: 64, ignore: ['re:.*v_proj']}", good, []string{`vllm (tensor "model.layers.0.self_attn.v_proj.weight"): it is kept while model.layers.0.self_attn.q_proj.weight, fused with it at load, is quantized; fix: ignore all`}},
		{"vllm", "{group_size: 64, ignore: ['re:.*[qkv]_proj']}", good, nil},
		{"vllm", "{group_size: 64, ignore: ['re:.*1.mlp.gate_proj']}", good, []string{`"model.layers.1.mlp.gate_proj.weight"): it is kept while model.layers.1.mlp.up_proj.weight`}},
		{"hf", "{group_size: 64, ignore: ['re:.*v_proj']}", good, nil},
		{"llama.cpp", "{group_size: -1}", good, []string{"llama.cpp: its converter reads pack-quantized weights with strategy group only; fix: use quantize.group_size 32, 64 or 128"}},
		{"mlx", "{group_size: 64}", good, []string{"mlx: no reader of compressed-tensors pack-quantized is known for mlx"}},
		{"tensorrt-llm", "{group_size: 64}", good, []string{"tensorrt-llm: no reader of compressed-tensors pack-quantized is known"}},
		{"hf", "{group_size: 64}", testmodel.Options{Family: "gpt2", D: 64, H: 4, V: 64}, []string{"hf: gpt2 holds its projections in Conv1D modules"}},
	} {
		c.model.Seed = 1
		m := describe(t, c.model)
		var q *quantDecision
		if c.section != "" {
			r, err := ParseRecipe([]byte("quantize: " + c.section))
			if err != nil {
				t.Fatal(err)
			}
			if q, err = decideQuantize(m, r, formats.F32); err != nil {
				t.Fatal(err)
			}
		}
		vs := preflight(m, []string{c.target}, q)
		err := refusal(vs)
		if (err == nil) != (c.want == nil) || err != nil && KindOf(err) != KindUsage {
			t.Errorf("%s %s: %v", c.target, c.section, err)
			continue
		}
		var found strings.Builder
		for _, v := range vs {
			fmt.Fprintln(&found, v)
		}
		for _, w := range c.want {
			if !strings.Contains(found.String(), w) {
				t.Errorf("%s %s: lacks %q:\n%v", c.target, c.section, w, &found)
			}
		}
	}
}

// TestViolationLines: violations that differ in a layer's number share a line, all others have their own.
func TestViolationLines(t *testing.T) {
	got := violationLines([]violation{
		{"vllm", "model.layers.0.q.weight", "odd", "even it"}, {"vllm", "model.layers.10.q.weight", "odd", "even it"},
		{"vllm", "model.layers.2.k.weight", "odd", "even it"}, {"vllm", "model.layers.1.q.weight", "odd", "even it"},
		{"vllm", "model.layers.2.q.weight", "prime", "even it"}, {"hf", "", "too old", "wait"},
	})
	want := []string{
		`vllm (tensor "model.layers.*.q.weight", * = 0-1, 10): odd; fix: even it`,
		`vllm (tensor "model.layers.2.k.weight"): odd; fix: even it`,
		`vllm (tensor "model.layers.2.q.weight"): prime; fix: even it`,
		`hf: too old; fix: wait`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestTensorParallel has the largest size at which everything divides.
func TestTensorParallel(t *testing.T) {
	for _, c := range []struct {
		o    testmodel.Options
		q    *quantDecision
		want int
	}{
		{testmodel.Options{D: 512, H: 8, G: 8, K: 64, F: 1024, V: 64}, nil, 8},
		{testmodel.Options{D: 512, H: 8, G: 2, K: 64, F: 1024, V: 64}, nil, 8}, // KV heads are repeated
		{testmodel.Options{D: 512, H: 8, G: 8, K: 64, F: 1024, V: 64}, &quantDecision{Output: outputPacked, Group: 128}, 4},
		{testmodel.Options{D: 512, H: 8, G: 8, K: 64, F: 1024, V: 64}, &quantDecision{Output: outputDequantized, Group: 128}, 8},
		{testmodel.Options{D: 384, H: 6, G: 6, K: 64, F: 1024, V: 64}, nil, 2},
		{testmodel.Options{D: 384, H: 3, G: 3, K: 64, F: 1024, V: 64}, nil, 1},
	} {
		c.o.Seed = 1
		if got := tensorParallel(describe(t, c.o), c.q); got != c.want {
			t.Errorf("%+v: %d, want %d", c.o, got, c.want)
		}
	}
}
