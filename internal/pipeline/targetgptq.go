package pipeline

// gptq checks what readers of GPTQ weights ask for.
func (c *checker) gptq(u use) {
	c.zeroLabel(u)
	switch c.target {
	case "hf":
		c.needs("optimum", "gptqmodel")
	case "vllm":
		if !marlinGPTQ(u) {
			c.refuse(ruleKernel, u.at, "convert it to compressed-tensors or AWQ, or quantize with 4 or 8 symmetric bits", "its GPTQ kernels take symmetric codes of 4 or 8 bits, not %s; only releases that still have the plain GPTQ kernels load it, in float16", u)
			return
		}
		c.kernels(u)
	case "sglang":
		if !marlinGPTQ(u) {
			c.require(ruleHalf, u.at, "serve with --dtype half", "the plain GPTQ kernels, which %s is left to, compute in float16 alone", u)
			return
		}
		c.kernels(u)
	case "tensorrt-llm":
		c.tensorrtGPTQ(u)
	case "llama.cpp":
		c.converterGPTQ(u)
	case "mlx":
		c.refuse(ruleNoReader, u.at, "convert it to AWQ, or to plain weights", "it reads GPTQ as if it were packed as AWQ, and refuses the tensors g_idx")
	}
}

// marlinGPTQ reports whether the fast GPTQ kernels take a format.
func marlinGPTQ(u use) bool { return (u.Bits == 4 || u.Bits == 8) && u.Symmetric }

// zeroLabel finds zero points that are stored as one version of GPTQ and labelled as the other. Kernels for symmetric codes do not read
// them; all others would compute something else.
func (c *checker) zeroLabel(u use) {
	label := c.c.facts().quant.format
	if label == "" {
		label = methodGPTQ
	}
	if c.c.facts().keys == nil || label == u.Layout || c.is("vllm", "sglang") && marlinGPTQ(u) {
		return
	}
	c.refuse(ruleZeroLabel, atKey("quantization_config.checkpoint_format"), "set it to "+u.Layout+", or convert the checkpoint", "the zero points are those of %s, and the label says %s: weights would be off by a step", u.Layout, label)
}

func (c *checker) tensorrtGPTQ(u use) {
	switch {
	case u.Bits != 4 || u.Group != 64 && u.Group != 128:
		c.refuse(ruleNoReader, u.at, "quantize with 4 bits in groups of 64 or 128", "no reader of %s is known for %s: it has one for 4 bits in groups of 64 or 128", u, c.target)
	case u.ActOrder:
		c.refuse(ruleOrder, u.at, "quantize without activation order", "it refuses columns in the order of activations")
	default:
		c.require(ruleNoReader, u.at, "use one of its latest releases", "its releases refused quant_method gptq until a reader was added in 2026")
	}
}

func (c *checker) converterGPTQ(u use) {
	if u.Bits == 3 {
		c.refuse(ruleConvBits, u.at, "quantize with 2, 4 or 8 bits", "its converter reads GPTQ of 2, 4 and 8 bits, not 3")
	}
	if !u.Indexed {
		c.refuse(ruleConvGIdx, u.at, "store g_idx with the weights", "its converter waits for the tensors g_idx, which are not there")
	}
}

// awq checks what readers of AWQ weights ask for.
func (c *checker) awq(u use) {
	switch c.target {
	case "hf":
		c.needs("autoawq")
	case "vllm", "sglang":
		c.awqKernels(u)
	case "tensorrt-llm", "llama.cpp":
		c.refuse(ruleNoReader, u.at, "convert it to another format", "no reader of AWQ is known for %s", c.target)
	case "mlx":
		c.note("AWQ weights run in the type of their scales (float16)")
	}
}

// awqKernels finds weights that the Marlin kernels do not take: the kernels of AWQ itself compute in float16 alone.
func (c *checker) awqKernels(u use) {
	c.rounded(u)
	if !containsInt(groupSizes, u.Group) {
		c.require(ruleHalf, u.at, "serve with --dtype half", "groups of %d are left to the kernels of AWQ itself, which compute in float16 alone", u.Group)
		return
	}
	if c.m.TorchDType == "float16" {
		return
	}
	for l := range c.m.Layers {
		for _, lin := range c.m.Layers[l].Linears {
			if f, ok := c.c.stored(lin); ok && f.Method == methodAWQ && (lin.Out%64 != 0 || lin.In%128 != 0) {
				c.require(ruleHalf, atTensor(lin.Weight), "serve with --dtype half", "%d x %d is left to the kernels of AWQ itself, which compute in float16 alone", lin.Out, lin.In)
				return
			}
		}
	}
}
