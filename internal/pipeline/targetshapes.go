package pipeline

import "modelpress/internal/arch"

// shapes checks head counts and per-layer variation, which hold for every checkpoint.
func (c *checker) shapes() {
	first := c.m.Layers[0]
	for l := range c.m.Layers {
		a := &c.m.Layers[l]
		if a.H == first.H && a.G == first.G && a.K == first.K && a.F == first.F {
			continue
		}
		if c.deci() {
			if !c.c.GGUF {
				c.require(ruleDeci, spot{}, "compress convert --to gguf", "layer %d has other head counts or FFN width than layer 0; only the architecture deci has these for each layer", l)
			}
			break
		}
		fix := "use a checkpoint of uniform layers"
		if a.H == first.H && a.K == first.K && a.F == first.F {
			fix += "; where it is kvmerge that makes them differ, set kvmerge.layout to portable, or give kv_heads in place of kv_budget"
		} else {
			fix += "; where it is prune that makes them differ, set prune.layout to portable"
		}
		c.refuse(ruleUniformLayers, spot{}, fix, "layer %d has other head counts or FFN width than layer 0; stock model classes take one value for all layers", l)
		return
	}
	if first.H > 0 && c.m.D%first.H != 0 && c.is("hf", "vllm", "sglang") {
		c.refuse(ruleHeadsDivide, spot{}, "choose a head count that divides the hidden size", "hidden size %d is not a multiple of %d heads", c.m.D, first.H)
	}
	if first.G > 0 && first.H%first.G != 0 {
		c.refuse(ruleKVDivides, spot{}, "choose a KV head count that divides the query heads", "%d query heads are not a multiple of %d KV heads", first.H, first.G)
	}
}

// deci reports whether the model can be a GGUF of architecture deci, which has head counts and an FFN width for each layer. Of a layer
// without FFN its graph drops what attention adds; the first layer must attend; and it reads a bias of queries as wide as the stream.
func (c *checker) deci() bool {
	if c.target != "llama.cpp" || c.m.Family != "llama" || !c.m.Layers[0].HasAttention() {
		return false
	}
	for l := range c.m.Layers {
		a := &c.m.Layers[l]
		if !a.HasFFN() || a.HasAttention() && (a.K != c.m.Layers[0].K || a.Linears[arch.Q].Bias != "" && a.H*a.K != c.m.D) {
			return false
		}
	}
	return true
}

// family says where no model class for a family is known.
func (c *checker) family() {
	if c.m.Family == "gpt2" && c.is("tensorrt-llm") {
		c.unsure(ruleFamily, atKey("model_type"), "try it, or use another runtime", "no class for %s is known in its PyTorch backend", c.m.Architecture)
	}
}
