package pipeline

// The rules of loaders, by what programs know them as: Finding.ID. docs/TARGETS.md explains each, and a test compares the two lists.
const (
	// Shapes.
	ruleUniformLayers  = "uniform_layers"
	ruleHeadsDivide    = "heads_divide_hidden"
	ruleKVDivides      = "kv_heads_divide_heads"
	ruleDeci           = "gguf_deci"
	ruleFamily         = "family_not_known"
	ruleMergedPower    = "kv_heads_power_of_two"
	ruleMergedParallel = "kv_heads_parallel"

	// Quantized weights, whatever their format.
	ruleConv1D     = "conv1d_modules"
	ruleNoReader   = "no_reader"
	ruleMethod     = "quantization_not_known"
	ruleFused      = "fused_scheme"
	ruleFusedScale = "fused_scales"
	rulePlain      = "plain_but_targeted"
	ruleTransform  = "online_transform"

	// Integer codes that kernels read with 16-bit activations.
	ruleGroups    = "kernel_groups"
	ruleShapes    = "kernel_shapes"
	ruleZeros     = "kernel_zero_points"
	ruleKernel    = "gptq_kernels"
	ruleHalf      = "float16_only"
	ruleZeroLabel = "gptq_zero_label"
	ruleOrder     = "activation_order"

	// 8-bit and 4-bit formats with their activations.
	ruleInt8Inputs  = "int8_activations"
	ruleInt8Zeros   = "int8_symmetric"
	ruleInt8AsFP8   = "int8_read_as_fp8"
	ruleFP8Strategy = "fp8_strategy"
	ruleFP8Inputs   = "fp8_activations"
	ruleFP8Block    = "fp8_block_shapes"
	ruleFP8GPU      = "fp8_gpu"
	ruleFP4Inputs   = "fp4_activations"
	ruleClasses     = "class_targets"

	// llama.cpp's converter of Hugging Face checkpoints.
	ruleStrategy   = "converter_strategy"
	ruleOneGroup   = "converter_one_group"
	ruleConvOrder  = "converter_act_order"
	ruleConvZeros  = "converter_zero_points"
	ruleConvInputs = "converter_static_inputs"
	ruleConvBits   = "converter_bits"
	ruleConvGIdx   = "converter_g_idx"

	// The container and the files beside it.
	ruleGGUF       = "gguf_container"
	ruleFormatPT   = "metadata_format"
	ruleCode       = "remote_code"
	ruleTokenizer  = "tokenizer_missing"
	ruleTied       = "tie_key"
	ruleHeadDim    = "head_dim_null"
	ruleWindows    = "windows"
	ruleLayerTypes = "windows_layer_types"
	ruleLlamaSlide = "windows_of_llama"
)
