package pipeline

import "modelpress/internal/arch"

// fp8 checks FP8 with quant_method fp8: in blocks, as DeepSeek-V3 has it, or with one scale for a tensor.
func (c *checker) fp8(u use) {
	at := atKey("quantization_config.weight_block_size")
	switch {
	case c.is("mlx"):
		c.refuse(ruleNoReader, u.at, "convert it to plain weights", "no reader of quant_method fp8 is known for %s", c.target)
	case c.is("vllm", "sglang"):
		c.note("FP8 arithmetic needs GPUs of compute capability 8.9")
	case u.Group == 0:
		c.unsure(ruleFP8Strategy, at, "scale the weights in blocks of 128", "whether it reads quant_method fp8 with one scale for a tensor has not been looked at")
	case c.is("hf"):
		c.require(ruleFP8GPU, u.at, "use such a GPU", "it computes FP8 on GPUs of compute capability 8.9 and later only")
	case c.is("tensorrt-llm") && u.Group != 128:
		c.refuse(ruleFP8Strategy, at, "scale the weights in blocks of 128", "it reads FP8 in blocks of 128, not of %d", u.Group)
	}
}

// modelOpt checks weights of NVIDIA's Model Optimizer.
func (c *checker) modelOpt(u use) {
	switch c.target {
	case "hf":
		c.unsure(ruleMethod, atKey("quantization_config"), "convert it to compressed-tensors", "whether it reads quant_method modelopt has not been looked at")
	case "mlx":
		c.refuse(ruleNoReader, u.at, "convert it to plain weights", "no reader of quant_method modelopt is known for %s", c.target)
	case "vllm", "sglang":
		if u.Layout == layoutFloat {
			c.note("FP8 arithmetic needs GPUs of compute capability 8.9")
		}
	}
}

// fusedBlocks checks FP8 blocks of projections that are fused: each but the last has to end with a block.
func (c *checker) fusedBlocks(lins *[arch.NumRoles]arch.Linear, roles []arch.Role) {
	if !c.is("vllm", "sglang") {
		return
	}
	for _, r := range roles[:len(roles)-1] {
		if f, ok := c.c.stored(lins[r]); ok && f.block() && lins[r].Out%f.Group != 0 {
			c.refuse(ruleFP8Block, atTensor(lins[r].Weight), "keep the fused projections in 16 bits, or scale by rows", "its %d outputs do not end with a block of %d, and others follow in the fused matrix", lins[r].Out, f.Group)
		}
	}
}
