package packed

import (
	"encoding/json"
	"fmt"

	"modelpress/formats"
)

// The values of quant_method whose tensors are read here.
const (
	methodOwn      = "compressed-tensors"
	methodFP8      = "fp8"      // DeepSeek-V3 and what follows it; AutoFP8
	methodModelOpt = "modelopt" // NVIDIA Model Optimizer
)

// parseFP8 reads the config of quant_method "fp8": codes F8_E4M3 with weight_scale_inv [ceil(out/h), ceil(in/w)] where
// weight_block_size is [h, w], and with one weight_scale where there is none. Scales are F32 and the products are rounded to BF16,
// as FP8BlockDequantizer of compressed-tensors does it. Modules that are not quantized are known by their type.
func parseFP8(raw json.RawMessage) (*rules, error) {
	var activations, format string
	var block []int64
	if err := fields(raw, false, map[string]any{
		"activation_scheme": &activations, "fmt": &format, "weight_block_size": &block,
	}); err != nil {
		return nil, err
	}
	if format != "" && format != "e4m3" {
		return nil, fmt.Errorf("fmt %.40q; supported: e4m3", format)
	}
	l := &layout{code: formats.F8E4M3, show: formats.BF16, cut: true}
	if block != nil {
		if len(block) != 2 || block[0] < 1 || block[1] < 1 || block[0] > maxGroup || block[1] > maxGroup {
			return nil, fmt.Errorf("weight_block_size %v; two positive sizes are needed", block)
		}
		l.rows, l.columns, l.factors = block[0], block[1], suffixScaleInv
	}
	return one(stored{format: formatFP8, float: l, static: activations == "static"}), nil
}

// parseModelOpt reads the config of quant_method "modelopt": quant_algo "NVFP4" has the codes of NVFP4 as weight, U8, and the
// reciprocal of its global scale as weight_scale_2; "FP8" has one scale for a weight. hf_quant_config.json has the same in an
// object of its own. Modules that are not quantized are known by their type.
func parseModelOpt(raw json.RawMessage) (*rules, error) {
	var algo string
	var cache, cacheAlgo any
	keys := map[string]any{"quant_algo": &algo, "kv_cache_scheme": &cache, "kv_cache_quant_algo": &cacheAlgo}
	var inner json.RawMessage
	if err := fields(raw, false, map[string]any{"quantization": &inner}); err != nil {
		return nil, err
	}
	if inner != nil {
		raw = inner
	}
	if err := fields(raw, false, keys); err != nil {
		return nil, err
	}
	if cache != nil || cacheAlgo != nil {
		return nil, errCache
	}
	s := stored{format: formatModelOpt + " " + algo, static: true}
	switch algo {
	case "NVFP4":
		l := nvfp4()
		l.codes, l.global = suffixWeight, suffixScale2
		s.float = &l
	case "FP8":
		s.float = &layout{code: formats.F8E4M3, show: formats.BF16}
	default:
		return nil, fmt.Errorf("quant_algo %.40q; supported: NVFP4, FP8", algo)
	}
	return one(s), nil
}

// one returns rules by which all quantized modules are stored alike.
func one(s stored) *rules {
	halves := s.float.fp4()
	return &rules{halves: halves, groups: []ruleGroup{{targets: []target{{name: "Linear"}}, stored: s}}}
}
