package planfile

import (
	"encoding/json"
	"strings"
)

// sample returns a small plan: two source tensors, one quantized into three, in two shards.
func sample() *Plan {
	hex := func(c string) string { return strings.Repeat(c, 64) }
	return &Plan{
		Tool:        Tool{"compress", "0.1.0"},
		DeviceClass: "cpu-f32",
		Source: Source{
			Family: "llama", Architecture: "LlamaForCausalLM",
			ConfigDigest:  "sha256:" + hex("1"),
			WeightsDigest: "tensors-v1:sha256:" + hex("2"),
			Files:         []File{{"tokenizer.json", 10, hex("3")}},
			Tensors: []Tensor{
				{"a.weight", "BF16", []int64{64, 32}, 4096, hex("4")},
				{"norm.weight", "BF16", []int64{32}, 64, hex("5")},
			},
		},
		Calibration: &Calibration{Digest: "sha256:" + hex("6"), Calib: &TokenSet{"sha256:" + hex("7"), 4, 128, 512}},
		Recipe:      Recipe{"sha256:" + hex("8"), json.RawMessage(`{"seed": 1, "quantize": {"bits": 4, "damp": 1e-2}}`)},
		Targets:     []Target{{Name: "hf", Loads: true}, {Name: "llama.cpp", Violations: []Violation{{"a.weight", "row_multiple_of_256", "use a group of 32"}}}},
		Steps: []Step{{
			Name: "quantize", Version: 1, Summary: "1 tensor -> int4 g32",
			Rows:     []Row{{"±", "1 tensor", "bf16 -> int4 g32 <&>", -2000}},
			Decision: json.RawMessage(`{"b":[1,2.50,1e-9],"a":9007199254740993}`),
		}},
		Gates:    []Gate{{"perplexity_ratio", "<=", 1.05}},
		Estimate: Estimate{1 << 30, 0},
		Changes: []Change{
			{"a.weight", "quantized_rtn", "quantize", Stored{"BF16", []int64{64, 32}, 4096}, []Tensor{
				{Name: "a.weight_packed", DType: "I32", Shape: []int64{64, 4}, Bytes: 1024},
				{Name: "a.weight_scale", DType: "BF16", Shape: []int64{64, 1}, Bytes: 128},
			}},
			{"norm.weight", "kept_norm", "", Stored{"BF16", []int64{32}, 64}, []Tensor{
				{Name: "norm.weight", DType: "BF16", Shape: []int64{32}, Bytes: 64},
			}},
		},
		Output: Output{
			Format: "safetensors", Quantization: "compressed-tensors/pack-quantized", TensorBytes: 1216, FileBytes: 1616,
			Shards: []Shard{
				{"model-00001-of-00002.safetensors", 1352, 200, []Placed{
					{"a.weight_packed", "I32", []int64{64, 4}, 0, 1024}, {"a.weight_scale", "BF16", []int64{64, 1}, 1024, 128},
				}},
				{"model-00002-of-00002.safetensors", 264, 200, []Placed{{"norm.weight", "BF16", []int64{32}, 0, 64}}},
			},
			Files: []OutputFile{{"config.json", "edited", ""}, {"tokenizer.json", "copied", hex("3")}},
		},
	}
}
