package pipeline

// container checks whether the target reads the kind of file at all, and notes how a directory comes to llama.cpp.
func (c *checker) container() {
	if !c.c.GGUF {
		if c.is("llama.cpp") {
			c.intoGGUF()
		}
		return
	}
	switch c.target {
	case "llama.cpp":
		for _, u := range c.uses() {
			if oneOf(u.Layout, "Q4_0", "Q4_1") {
				c.note("Q4_0 and Q4_1 give wrong results on CPUs with AMX in builds of February 2025, and need --no-repack there in August 2026")
			}
		}
	case "hf":
		c.require(ruleGGUF, spot{}, "pass gguf_file to from_pretrained", "it reads GGUF of some architectures through gguf_file, and computes with the weights dequantized")
	case "vllm":
		c.require(ruleGGUF, spot{}, "install vllm-gguf-plugin where the release has it no longer, and name the tokenizer of the original model", "its support of GGUF is experimental, and a plugin in recent releases")
		if c.c.SplitGGUF {
			c.require(ruleGGUF, spot{}, "merge the parts", "releases that read GGUF themselves take single files")
		}
	case "sglang":
		c.unsure(ruleGGUF, spot{}, "try it, or use llama.cpp", "it has a reader of GGUF, which has not been looked at")
	case "tensorrt-llm":
		c.refuse(ruleGGUF, spot{}, "convert it to safetensors", "no reader of GGUF is known for %s", c.target)
	case "mlx":
		c.refuse(ruleGGUF, spot{}, "convert it to safetensors", "mlx-lm looks for model*.safetensors")
	}
}

// intoGGUF notes what its converter and its quantizer make of a directory.
func (c *checker) intoGGUF() {
	if uniformSizes(c.m) {
		c.note("by compress convert, or its own converter")
	} else {
		c.note("as GGUF of architecture deci only, which compress convert makes")
	}
	odd, odder, first := 0, 0, ""
	for l := range c.m.Layers {
		for _, lin := range c.m.Layers[l].Linears {
			if !lin.Present() || lin.In%256 == 0 {
				continue
			}
			if odd++; first == "" {
				first = lin.Weight
			}
			if lin.In%32 != 0 {
				odder++
			}
		}
	}
	if odd > 0 {
		c.note("K types fall back for %d matrices whose rows are no multiples of 256, the first %q: Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0", odd, first)
	}
	if odder > 0 {
		c.note("%d of them stay F16: their rows are no multiples of 32", odder)
	}
}
