package pipeline

import (
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

const (
	q0     = "model.layers.0.self_attn.q_proj.weight"
	oneCT  = `"quantization_config":{"quant_method":"compressed-tensors","config_groups":{"group_0":{"targets":["Linear"],"weights":{}}},"ignore":["lm_head"]}`
	twoCT  = `"quantization_config":{"quant_method":"compressed-tensors","config_groups":{"a":{"targets":["re:.*q_proj"]},"b":{"targets":["Linear"]}}}`
	online = `"quantization_config":{"quant_method":"compressed-tensors","config_groups":{"g":{"targets":["Linear"]}},"transform_config":{"config_groups":{"R4":{"apply":[{"location":"weight_input"},{"location":"input"}]}}}}`
)

func ruleCases() []ruleCase {
	return append(append(shapeCases(), quantCases()...), append(converterCases(), fileCases()...)...)
}

func shapeCases() []ruleCase {
	uneven := testmodel.Options{D: 256, H: 4, G: 2, K: 64, F: 512, PerLayer: map[int]testmodel.Sizes{1: {F: 256}}}
	return []ruleCase{
		{id: ruleUniformLayers, target: "vllm", rule: "layer 1 has other head counts", fix: "uniform layers", model: uneven},
		{id: ruleDeci, target: "llama.cpp", level: levelCondition, rule: "only the architecture deci", fix: "compress convert", model: uneven},
		{id: ruleHeadsDivide, target: "hf", rule: "256 is not a multiple of 3 heads", fix: "divides the hidden size", model: testmodel.Options{D: 256, H: 3, G: 3, K: 64, F: 512}},
		{id: ruleKVDivides, target: "mlx", rule: "4 query heads are not a multiple of 3", fix: "KV head count", edit: func(c *Candidate) {
			for l := range c.Model.Layers {
				c.Model.Layers[l].G = 3
			}
		}},
		{id: ruleFamily, target: "tensorrt-llm", level: levelUnsure, where: "model_type", rule: "GPT2LMHeadModel", fix: "try it", model: testmodel.Options{Family: "gpt2", D: 64, H: 4}},
		{id: ruleHeadDim, target: "sglang", level: levelCondition, where: "head_dim", rule: "null", fix: "write the number", edit: func(c *Candidate) {
			c.Config = []byte(`{"head_dim": null, "tie_word_embeddings": false}`)
		}},
		{id: ruleTied, target: "mlx", where: "tie_word_embeddings", rule: "drops the head", fix: "false", edit: func(c *Candidate) {
			c.Config = []byte(`{"head_dim": 64}`)
		}},
		{id: ruleLlamaSlide, target: "vllm", level: levelCondition, where: "sliding_window", rule: "transformers does not", fix: "remove sliding_window", config: `"sliding_window": 128`},
		{id: ruleLlamaSlide, target: "mlx", level: levelCondition, where: "sliding_window", config: `"sliding_window": 128, "layer_types": ["full_attention","sliding_attention"]`},
		{id: ruleWindows, target: "llama.cpp", level: levelCondition, where: "sliding_window", rule: "up to 16 tokens", fix: "keep contexts", model: slidingMistral},
		{id: ruleWindows, target: "sglang", level: levelUnsure, where: "sliding_window", rule: "16 tokens for MistralForCausalLM", model: slidingMistral},
		{id: ruleWindows, target: "tensorrt-llm", level: levelCondition, where: "sliding_window", rule: "#18767", fix: "max_attention_window", model: slidingMistral},
		{id: ruleWindows, target: "mlx", level: levelCondition, where: "sliding_window", rule: "without layer_types", model: slidingMistral},
		{id: ruleWindows, target: "mlx", level: levelUnsure, where: "sliding_window", rule: "Qwen2ForCausalLM", edit: slide("qwen2", 16, 16)},
		{id: ruleWindows, target: "vllm", level: levelCondition, where: "sliding_window", rule: "Qwen3", fix: "#39514", edit: slide("qwen3", 16, 16)},
		{id: ruleLayerTypes, target: "vllm", level: levelCondition, where: "layer_types", rule: "the window of all layers", fix: "write layer_types", edit: slide("qwen2", 0, 16)},
		{id: ruleLayerTypes, target: "mlx", where: "layer_types", rule: "full attention", fix: "remove layer_types", model: slidingMistral, config: `"layer_types": ["sliding_attention","sliding_attention"]`},
	}
}

var slidingMistral = testmodel.Options{Family: "mistral", D: 256, H: 4, G: 2, K: 64, F: 512, Window: 16}

// slide makes a model of a family that has these windows.
func slide(family string, windows ...int) func(*Candidate) {
	return func(c *Candidate) {
		c.Model.Family, c.Model.Architecture = family, map[string]string{"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[family]
		for l, w := range windows {
			c.Model.Layers[l].Window = w
		}
	}
}

func quantCases() []ruleCase {
	return []ruleCase{
		{id: ruleConv1D, target: "hf", rule: "Conv1D", fix: "use bits 2 or 3", model: testmodel.Options{Family: "gpt2", D: 64, H: 4}, weights: all(pack4)},
		{id: ruleMethod, target: "vllm", level: levelUnsure, where: "quantization_config", rule: `"hqq"`, config: `"quantization_config":{"quant_method":"hqq"}`},
		{id: ruleMethod, target: "hf", level: levelUnsure, where: "quantization_config", rule: "modelopt", weights: all(WeightFormat{Method: methodModelOpt, Layout: layoutFloat, Bits: 8})},
		{id: ruleMethod, target: "sglang", level: levelUnsure, rule: "mxfp8", weights: all(ct(layoutMXFP8, 8, 32, true))},
		{id: ruleNoReader, target: "mlx", rule: "compressed-tensors pack-quantized is known for mlx", fix: "remove the target", weights: all(pack4)},
		{id: ruleNoReader, target: "tensorrt-llm", rule: "compressed-tensors pack-quantized is known for tensorrt-llm", weights: all(pack4)},
		{id: ruleNoReader, target: "tensorrt-llm", level: levelCondition, rule: "quant_method gptq", fix: "latest", weights: all(gptqOf(4, 128, true))},
		{id: ruleNoReader, target: "tensorrt-llm", rule: "groups of 64 or 128", weights: all(gptqOf(8, 128, true))},
		{id: ruleNoReader, target: "tensorrt-llm", rule: "AWQ", weights: all(awq4)},
		{id: ruleNoReader, target: "mlx", rule: "packed as AWQ", fix: "convert it", weights: all(gptqOf(4, 128, true))},
		{id: ruleNoReader, target: "mlx", rule: "quant_method fp8", weights: all(fp8ds)},
		{id: ruleNoReader, target: "mlx", rule: "modelopt", weights: all(WeightFormat{Method: methodModelOpt, Layout: layoutNVFP4, Bits: 4, Group: 16})},
		{id: ruleOrder, target: "tensorrt-llm", rule: "order of activations", fix: "without activation order", weights: all(gptqOf(4, 128, true).with(func(f *WeightFormat) { f.ActOrder = true }))},
		{id: ruleFused, target: "vllm", where: "0.self_attn.v_proj", rule: "kept while " + q0, fix: "all of the fused", weights: part(pack4, arch.Q, arch.K)},
		{id: ruleFused, target: "sglang", where: "1.mlp.up_proj", rule: "pack-quantized of 8 bits in groups of 128 while model.layers.1.mlp.gate_proj.weight", fix: "one scheme",
			weights: mix(func(l int, r arch.Role) (WeightFormat, bool) {
				if l == 1 && r == arch.Up {
					return ct(layoutPack, 8, 128, true), true
				}
				return pack4, true
			})},
		{id: ruleFusedScale, target: "vllm", level: levelCondition, where: "0.self_attn.v_proj", rule: "not that of " + q0, fix: "one scale", weights: mix(func(_ int, r arch.Role) (WeightFormat, bool) {
			f := nvfp4s
			if f.Global = 2; r == arch.V {
				f.Global = 3
			}
			return f, true
		})},
		{id: rulePlain, target: "hf", where: "1.mlp.down_proj", rule: "stored plain", fix: "add its module to ignore", config: oneCT, weights: mix(func(l int, r arch.Role) (WeightFormat, bool) {
			return pack4, l == 0 || r != arch.Down
		})},
		{id: ruleTransform, target: "vllm", level: levelCondition, where: "transform_config", rule: "(input)", fix: "#22486", config: online, weights: all(pack4)},
		{id: ruleTransform, target: "hf", where: "transform_config", rule: "does not transform", config: online, weights: all(pack4)},
		{id: ruleTransform, target: "sglang", level: levelUnsure, where: "transform_config", config: online, weights: all(pack4)},
		{id: ruleGroups, target: "vllm", rule: "not 256", fix: "32, 64, 128 or -1", weights: all(ct(layoutPack, 4, 256, true))},
		{id: ruleShapes, target: "sglang", where: q0, rule: "not 288 x 288", fix: "quantize.ignore", model: testmodel.Options{D: 288, H: 4, G: 4, K: 72, F: 512}, weights: all(gptqOf(4, 32, true))},
		{id: ruleZeros, target: "vllm", level: levelCondition, rule: "8-bit codes with zero points", fix: "Hopper", weights: all(ct(layoutPack, 8, 128, false))},
		{id: ruleZeros, target: "sglang", level: levelUnsure, rule: "8-bit codes with zero points", weights: all(ct(layoutPack, 8, 128, false))},
		{id: ruleKernel, target: "vllm", rule: "not gptq of 3 bits in groups of 128", fix: "4 or 8 symmetric bits", weights: all(gptqOf(3, 128, true))},
		{id: ruleKernel, target: "vllm", rule: "with zero points", weights: all(gptqOf(4, 128, false))},
		{id: ruleHalf, target: "sglang", level: levelCondition, rule: "gptq of 2 bits", fix: "--dtype half", weights: all(gptqOf(2, 128, true))},
		{id: ruleHalf, target: "vllm", level: levelCondition, where: "0.mlp.gate_proj", rule: "520 x 256", fix: "--dtype half", model: testmodel.Options{D: 256, H: 4, G: 2, K: 64, F: 520}, weights: all(awq4)},
		{id: ruleHalf, target: "sglang", level: levelCondition, rule: "groups of 16", weights: all(awq4.with(func(f *WeightFormat) { f.Group = 16 }))},
		{id: ruleZeroLabel, target: "hf", where: "checkpoint_format", rule: "those of gptq_v2", fix: "set it to gptq_v2", config: `"quantization_config":{"quant_method":"gptq","checkpoint_format":"gptq"}`,
			weights: all(gptqOf(4, 128, true).with(func(f *WeightFormat) { f.Layout = "gptq_v2" }))},
		{id: ruleInt8Inputs, target: "vllm", rule: "quantized inputs only", fix: "pack the codes", weights: all(ct(layoutInt, 8, -1, true))},
		{id: ruleInt8Zeros, target: "sglang", rule: "without zero points", fix: "symmetrically", weights: all(int8s.with(func(f *WeightFormat) { f.Symmetric = false }))},
		{id: ruleInt8AsFP8, target: "tensorrt-llm", rule: "these are int8", fix: "FP8", weights: all(int8s)},
		{id: ruleFP8Strategy, target: "tensorrt-llm", rule: "one scale for a tensor", fix: "by rows", weights: all(ct(layoutFloat, 8, 0, true))},
		{id: ruleFP8Strategy, target: "hf", level: levelUnsure, where: "weight_block_size", weights: all(WeightFormat{Method: methodFP8, Layout: methodFP8, Bits: 8})},
		{id: ruleFP8Inputs, target: "tensorrt-llm", rule: "by token only", fix: "by token", weights: all(ct(layoutFloat, 8, -1, true))},
		{id: ruleFP8Inputs, target: "tensorrt-llm", rule: "groups of 128 only", weights: all(ct(layoutFloat, 8, 128, true))},
		{id: ruleFP8Block, target: "vllm", where: "0.self_attn.k_proj", rule: "64 outputs do not end", fix: "scale by rows", model: testmodel.Options{D: 256, H: 4, G: 1, K: 64, F: 512}, weights: all(fp8blk)},
		{id: ruleFP8GPU, target: "hf", level: levelCondition, rule: "8.9", weights: all(fp8ds)},
		{id: ruleFP4Inputs, target: "tensorrt-llm", rule: "quantized inputs only", fix: "MXFP4", weights: all(nvfp4s)},
		{id: ruleClasses, target: "tensorrt-llm", where: "config_groups", rule: "the name of a class", fix: "re: patterns", config: twoCT, weights: all(fp8row)},
	}
}
