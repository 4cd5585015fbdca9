package pipeline

import (
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

func converterCases() []ruleCase {
	return []ruleCase{
		{id: ruleStrategy, target: "llama.cpp", rule: "strategy group only", fix: "quantize.group_size 32", weights: all(ct(layoutPack, 4, -1, true))},
		{id: ruleStrategy, target: "llama.cpp", rule: "strategy channel or block only", weights: all(ct(layoutFloat, 8, 0, true))},
		{id: ruleOneGroup, target: "llama.cpp", where: "config_groups", rule: "there are 2", fix: "alike", config: twoCT, weights: all(pack4)},
		{id: ruleConvOrder, target: "llama.cpp", rule: "weight_g_idx", weights: all(pack4.with(func(f *WeightFormat) { f.ActOrder = true }))},
		{id: ruleConvZeros, target: "llama.cpp", rule: "zero points", weights: all(int8s.with(func(f *WeightFormat) { f.Symmetric = false }))},
		{id: ruleConvInputs, target: "llama.cpp", rule: "input_scale", fix: "dynamic", weights: all(ct(layoutFloat, 8, -1, true).with(inputs("static tensor")))},
		{id: ruleConvBits, target: "llama.cpp", rule: "not 3", fix: "2, 4 or 8", weights: all(gptqOf(3, 128, true))},
		{id: ruleConvGIdx, target: "llama.cpp", rule: "g_idx", weights: all(gptqOf(4, 128, true).with(func(f *WeightFormat) { f.Indexed = false }))},
		{id: ruleNoReader, target: "llama.cpp", rule: "nvfp4-pack-quantized", weights: all(nvfp4s)},
	}
}

func fileCases() []ruleCase {
	gguf := func(c *Candidate) { c.GGUF, c.Config = true, nil }
	bare := func(c *Candidate) { c.Tokenizer, c.ChatTemplate = false, false }
	code := func(c *Candidate) { c.RemoteCode = []string{"modeling_x.py", "config.json: auto_map"} }
	shard := func(m map[string]string) func(*Candidate) {
		return func(c *Candidate) {
			c.Shards = append(c.Shards, ShardMetadata{File: "model-00002-of-00002.safetensors", Metadata: m})
		}
	}
	return []ruleCase{
		{id: ruleGGUF, target: "hf", level: levelCondition, rule: "gguf_file", fix: "gguf_file", edit: gguf},
		{id: ruleGGUF, target: "vllm", level: levelCondition, rule: "experimental", fix: "vllm-gguf-plugin", edit: gguf},
		{id: ruleGGUF, target: "vllm", level: levelCondition, rule: "single files", fix: "merge", edit: func(c *Candidate) { gguf(c); c.SplitGGUF = true }},
		{id: ruleGGUF, target: "sglang", level: levelUnsure, rule: "reader of GGUF", edit: gguf},
		{id: ruleGGUF, target: "tensorrt-llm", rule: "no reader of GGUF", fix: "safetensors", edit: gguf},
		{id: ruleGGUF, target: "mlx", rule: "model*.safetensors", edit: gguf},
		{id: ruleFormatPT, target: "hf", where: "model-00002", rule: "does not say", fix: `"format":"pt"`, edit: shard(map[string]string{"made": "here"})},
		{id: ruleFormatPT, target: "hf", level: levelCondition, where: "model-00002", rule: "no __metadata__", edit: shard(nil)},
		{id: ruleCode, target: "vllm", level: levelCondition, where: "auto_map", rule: "modeling_x.py, config.json: auto_map", fix: "after 0.13", edit: code},
		{id: ruleCode, target: "hf", level: levelCondition, where: "auto_map", rule: "class of the library", fix: "trust_remote_code", edit: code},
		{id: ruleTokenizer, target: "vllm", level: levelCondition, where: "tokenizer.json", rule: "a server needs", edit: bare},
		{id: ruleTokenizer, target: "llama.cpp", level: levelCondition, where: "tokenizer.json", rule: "the library loads the weights without", edit: bare},
	}
}

// TestVerdictLoads has candidates that load, with the version that is known to, and the notes on them.
func TestVerdictLoads(t *testing.T) {
	for _, c := range []struct {
		ruleCase
		version, note string
	}{
		{ruleCase{target: "hf"}, "about 4.45", ""},
		{ruleCase{target: "hf", model: slidingMistral}, "4.47", ""},
		{ruleCase{target: "hf", weights: all(pack4)}, notKnown, "compressed-tensors"},
		{ruleCase{target: "hf", weights: all(gptqOf(3, 128, false))}, notKnown, "optimum and gptqmodel"},
		{ruleCase{target: "hf", weights: all(awq4)}, notKnown, "autoawq"},
		{ruleCase{target: "vllm", weights: all(pack4)}, notKnown, ""},
		{ruleCase{target: "vllm", weights: all(int8s)}, notKnown, ""},
		{ruleCase{target: "vllm", weights: all(fp8row)}, notKnown, "8.9"},
		{ruleCase{target: "sglang", weights: all(fp8blk)}, notKnown, "8.9"},
		{ruleCase{target: "vllm", weights: all(nvfp4s)}, notKnown, "16 bits"},
		{ruleCase{target: "vllm", weights: all(gptqOf(8, -1, true).with(func(f *WeightFormat) { f.ActOrder = true }))}, notKnown, "every rank keeps all scales"},
		{ruleCase{target: "sglang", weights: all(awq4)}, notKnown, ""},
		{ruleCase{target: "sglang", model: testmodel.Options{D: 256, H: 4, G: 2, K: 64, F: 512, DType: formats.BF16}, weights: all(awq4.with(func(f *WeightFormat) { f.Scales = formats.F16 }))}, notKnown, "scales of type F16 are rounded to bfloat16"},
		{ruleCase{target: "vllm", weights: all(fp8ds)}, notKnown, "8.9"},
		{ruleCase{target: "tensorrt-llm", weights: all(fp8row)}, notKnown, ""},
		{ruleCase{target: "tensorrt-llm", weights: all(fp8blk)}, notKnown, ""},
		{ruleCase{target: "tensorrt-llm", weights: all(mxfp4s)}, notKnown, ""},
		{ruleCase{target: "tensorrt-llm", weights: all(fp8ds)}, notKnown, ""},
		{ruleCase{target: "mlx", weights: all(awq4)}, notKnown, "float16"},
		{ruleCase{target: "llama.cpp"}, llamaCppBuild, "by compress convert, or its own converter"},
		{ruleCase{target: "llama.cpp", weights: all(pack4)}, "its converter of 2026", ""},
		{ruleCase{target: "llama.cpp", weights: all(gptqOf(4, 128, false))}, "its converter of 2026", ""},
		{ruleCase{target: "llama.cpp", edit: func(c *Candidate) { c.GGUF, c.Config = true, nil }}, llamaCppBuild, ""},
		{ruleCase{target: "llama.cpp", weights: all(WeightFormat{Method: methodGGUF, Layout: "Q4_0"}), edit: func(c *Candidate) { c.GGUF = true }}, llamaCppBuild, "AMX"},
		{ruleCase{target: "llama.cpp", weights: all(WeightFormat{Method: methodGGUF, Layout: "NVFP4"}), edit: func(c *Candidate) { c.GGUF = true }}, notKnown, ""},
	} {
		v := Verdicts(c.candidate(t), []string{c.target})[0]
		lines := VerdictLines([]Verdict{v}, false)
		if v.Verdict != VerdictLoads || v.MinVersion != c.version || !containsText(lines, c.note) {
			t.Errorf("%s: %+v", c.target, v)
		}
	}
}
