package pipeline

import (
	"strings"

	"modelpress/formats"
)

func join(list []string) string { return strings.Join(list, ", ") }

// plainFix is the way out of packed weights.
const plainFix = "use bits 2 or 3 (written as plain weights)"

// compressed checks what readers of compressed-tensors ask for.
func (c *checker) compressed(u use) {
	if u.Layout == layoutMXFP8 && !c.is("llama.cpp", "mlx") {
		c.unsure(ruleMethod, u.at, "use FP8 in blocks of 128", "whether it reads compressed-tensors %s has not been looked at", u.Layout)
		return
	}
	if !c.m.PackedModules {
		c.refuse(ruleConv1D, u.at, plainFix+", or a family of nn.Linear modules", "%s holds its projections in Conv1D modules, which compressed-tensors cannot name", c.m.Family)
	}
	switch c.target {
	case "hf":
		c.needs("compressed-tensors")
	case "vllm", "sglang":
		c.kernels(u)
		c.inputs(u)
		c.gpu(u)
	case "tensorrt-llm":
		c.tensorrt(u)
	case "llama.cpp":
		c.converter(u)
	case "mlx":
		c.noReader(u)
	}
}

// needs notes what transformers needs besides.
func (c *checker) needs(names ...string) {
	text := "needs the Python package " + names[0]
	if len(names) > 1 {
		text = "needs the Python packages " + strings.Join(names, " and ")
	}
	c.note("%s", text)
}

func (c *checker) noReader(u use) {
	what := u.Layout
	if u.Method == methodCT {
		what = "compressed-tensors " + what
	}
	c.refuse(ruleNoReader, u.at, "remove the target, or "+plainFix, "no reader of %s is known for %s", what, c.target)
}

// kernels checks integer codes against the kernels that vLLM and SGLang have for them.
func (c *checker) kernels(u use) {
	if !u.integer() {
		return
	}
	if !containsInt(groupSizes, u.Group) {
		c.refuse(ruleGroups, u.at, "use quantize.group_size 32, 64, 128 or -1", "its kernels take groups of 32, 64, 128 or whole channels, not %d", u.Group)
	}
	if u.Bits == 8 && !u.Symmetric {
		if c.is("vllm") {
			c.require(ruleZeros, u.at, "serve on Hopper GPUs, or quantize symmetrically", "its Marlin kernels have no 8-bit codes with zero points; those for Hopper do")
		} else {
			c.unsure(ruleZeros, u.at, "quantize symmetrically", "its Marlin kernels have no 8-bit codes with zero points, and it does not look before the first token")
		}
	}
	c.rounded(u)
	if u.ActOrder {
		c.note("columns in the order of activations: every rank keeps all scales of the matrices that are split by inputs")
	}
}

// rounded notes scales that lose digits: they are read into the type that the model computes in.
func (c *checker) rounded(u use) {
	if c.m.TorchDType == "bfloat16" && (u.Scales == formats.F16 || u.Scales == formats.F32) {
		c.note("scales of type %s are rounded to bfloat16, the type that the model computes in; --dtype half keeps those of F16", u.Scales)
	}
}

// inputs checks formats whose activations are quantized too.
func (c *checker) inputs(u use) {
	if u.Layout != layoutInt {
		return
	}
	if u.Activations == "" {
		c.refuse(ruleInt8Inputs, u.at, "pack the codes (pack-quantized), or quantize the inputs by token", "it runs int-quantized weights with quantized inputs only")
	}
	if !u.Symmetric {
		c.refuse(ruleInt8Zeros, u.at, "quantize symmetrically", "its int8 kernels take weights without zero points")
	}
}

// gpu says on which GPUs floating-point codes run.
func (c *checker) gpu(u use) {
	switch u.Layout {
	case layoutFloat:
		c.note("FP8 arithmetic needs GPUs of compute capability 8.9; older ones compute in 16 bits from FP8 weights")
	case layoutNVFP4, layoutMXFP4:
		if u.Activations == "" {
			c.note("FP4 weights alone: computed in 16 bits on every GPU")
		}
	}
}

// tensorrt checks what TensorRT-LLM makes of compressed-tensors: FP8 by rows or blocks, NVFP4 with its inputs, MXFP4 without.
func (c *checker) tensorrt(u use) {
	switch u.Layout {
	case layoutFloat:
		c.tensorrtFP8(u)
	case layoutNVFP4:
		if u.Activations == "" {
			c.refuse(ruleFP4Inputs, u.at, "quantize the inputs too (NVFP4), or use MXFP4", "it reads NVFP4 with quantized inputs only")
		}
	case layoutMXFP4:
	case layoutInt:
		c.refuse(ruleInt8AsFP8, u.at, "use FP8 in place of int8", "it takes 8-bit weights of compressed-tensors for FP8, and these are int8")
	default:
		c.noReader(u)
		return
	}
	if q := &c.c.facts().quant; len(q.groups) > 1 && q.classes {
		c.refuse(ruleClasses, atKey("quantization_config.config_groups"), "name the modules of each group by re: patterns", "with several groups it takes no target that is the name of a class")
	}
}

func (c *checker) tensorrtFP8(u use) {
	switch {
	case u.Group == 0:
		c.refuse(ruleFP8Strategy, u.at, "scale FP8 weights by rows (channel) or in blocks of 128", "it reads FP8 of compressed-tensors by rows and in blocks, not with one scale for a tensor")
	case u.Group < 0 && u.Activations != "dynamic token":
		c.refuse(ruleFP8Inputs, u.at, "quantize the inputs by token when they come", "it reads FP8 rows with inputs that are quantized by token only")
	case u.Group > 0 && u.Activations != "dynamic group":
		c.refuse(ruleFP8Inputs, u.at, "quantize the inputs in groups of 128 when they come", "it reads FP8 blocks with inputs that are quantized in groups of 128 only")
	}
}

// converter checks what llama.cpp's converter of Hugging Face checkpoints reads of compressed-tensors.
func (c *checker) converter(u use) {
	if n := len(c.c.facts().quant.groups); n > 1 {
		c.refuse(ruleOneGroup, atKey("quantization_config.config_groups"), "quantize all modules alike", "its converter reads one config group, and there are %d", n)
	}
	switch u.Layout {
	case layoutPack:
		if u.Group == -1 {
			c.refuse(ruleStrategy, u.at, "use quantize.group_size 32, 64 or 128", "its converter reads pack-quantized weights with strategy group only")
		}
		if u.ActOrder {
			c.refuse(ruleConvOrder, u.at, "quantize without an order of columns", "its converter knows no weight_g_idx")
		}
	case layoutInt, layoutFloat:
		if u.Group == 0 {
			c.refuse(ruleStrategy, u.at, "scale by rows (channel), or FP8 in blocks", "its converter reads %s weights with strategy channel or block only", u.Layout)
		}
		if u.Layout == layoutInt && !u.Symmetric {
			c.refuse(ruleConvZeros, u.at, "quantize symmetrically", "its converter knows no zero points of int-quantized weights")
		}
		if strings.HasPrefix(u.Activations, "static") {
			c.refuse(ruleConvInputs, u.at, "quantize the inputs when they come (dynamic)", "its converter cannot name the tensors input_scale of static inputs")
		}
	default:
		c.noReader(u)
	}
}
