package pipeline

import (
	"fmt"

	"modelpress/internal/arch"
)

// use is a format that some weights are stored in, with the first of them.
type use struct {
	WeightFormat
	at spot
}

// weights checks how projections are stored against what the target reads.
func (c *checker) weights() {
	uses := c.uses()
	if len(uses) == 0 {
		if m := c.c.facts().quant.method; m != "" && !c.c.GGUF {
			c.unsure(ruleMethod, atKey("quantization_config"), "give its documentation a look", "how weights of quant_method %q are stored has not been looked at", m)
		}
		return
	}
	for _, u := range uses {
		switch u.Method {
		case methodCT:
			c.compressed(u)
		case methodGPTQ:
			c.gptq(u)
		case methodAWQ:
			c.awq(u)
		case methodFP8:
			c.fp8(u)
		case methodModelOpt:
			c.modelOpt(u)
		}
	}
	c.layers()
	c.targeted()
	c.transforms()
}

// uses lists the formats of all projections, in the order of the layers.
func (c *checker) uses() []use {
	if c.c.Weights == nil {
		return nil
	}
	var list []use
	seen := map[WeightFormat]bool{}
	for l := range c.m.Layers {
		for _, lin := range c.m.Layers[l].Linears {
			f, ok := c.c.stored(lin)
			if !ok || seen[f] {
				continue
			}
			seen[f] = true
			list = append(list, use{f, atTensor(lin.Weight)})
		}
	}
	if len(list) == 1 {
		list[0].at = spot{}
	}
	return list
}

// stored returns how a projection is stored, without the scale that is its own.
func (c *Candidate) stored(lin arch.Linear) (WeightFormat, bool) {
	if c.Weights == nil || !lin.Present() {
		return WeightFormat{}, false
	}
	f, ok := c.Weights(lin)
	f.Global = 0
	return f, ok
}

// String says in a few words how a weight is stored.
func (f WeightFormat) String() string {
	s := fmt.Sprintf("%s of %d bits", f.Layout, f.Bits)
	if f.Method == methodGGUF {
		s = f.Layout
	}
	switch {
	case f.Group > 0:
		s += fmt.Sprintf(" in groups of %d", f.Group)
	case f.Group < 0:
		s += " by rows"
	}
	if !f.Symmetric && f.integer() {
		s += " with zero points"
	}
	if f.Activations != "" {
		s += ", inputs " + f.Activations
	}
	return s
}

// layers checks each layer's projections: those that are fused at load, and the shapes that kernels take.
func (c *checker) layers() {
	if !c.is("vllm", "sglang", "tensorrt-llm") || c.c.GGUF {
		return
	}
	for l := range c.m.Layers {
		lins := &c.m.Layers[l].Linears
		for _, roles := range [][]arch.Role{{arch.Q, arch.K, arch.V}, {arch.Gate, arch.Up}} {
			c.fused(lins, roles)
			c.fusedBlocks(lins, roles)
		}
		if c.is("tensorrt-llm") {
			continue
		}
		for _, lin := range lins {
			if f, ok := c.c.stored(lin); ok && f.integer() && f.Method != methodAWQ && (lin.Out%64 != 0 || lin.In%128 != 0) {
				c.refuse(ruleShapes, atTensor(lin.Weight), "add the module to quantize.ignore (with those that are fused with it)", "its int4/int8 kernels need outputs in multiples of 64 and inputs in multiples of 128, not %d x %d", lin.Out, lin.In)
			}
		}
	}
}

// fused checks that projections which the runtime fuses share one scheme, and scales of whole tensors.
func (c *checker) fused(lins *[arch.NumRoles]arch.Linear, roles []arch.Role) {
	var with, without []arch.Linear
	for _, r := range roles {
		if !lins[r].Present() {
			continue
		}
		if _, ok := c.c.stored(lins[r]); ok {
			with = append(with, lins[r])
		} else {
			without = append(without, lins[r])
		}
	}
	if len(with) > 0 && len(without) > 0 {
		c.refuse(ruleFused, atTensor(without[0].Weight), "ignore all of the fused projections or none", "it is kept while %s, fused with it at load, is quantized", with[0].Weight)
	}
	if len(with) < 2 {
		return
	}
	first, _ := c.c.Weights(with[0])
	for _, lin := range with[1:] {
		f, _ := c.c.Weights(lin)
		same, other := first, f
		same.Global, other.Global = 0, 0
		switch {
		case same != other:
			c.refuse(ruleFused, atTensor(lin.Weight), "give all of the fused projections one scheme", "it is stored as %s while %s, fused with it at load, is stored as %s", other, with[0].Weight, same)
		case f.Global != first.Global:
			c.require(ruleFusedScale, atTensor(lin.Weight), "quantize again with one scale for the fused projections", "its scale of the whole tensor is not that of %s, fused with it at load; the loader goes on with one of them, which costs accuracy", with[0].Weight)
		}
	}
}

// targeted finds plain weights that quantization_config says are quantized: their loader waits for tensors that are not there.
func (c *checker) targeted() {
	q := &c.c.facts().quant
	if q.method != methodCT || c.is("llama.cpp") {
		return
	}
	for l := range c.m.Layers {
		for _, lin := range c.m.Layers[l].Linears {
			if _, stored := c.c.stored(lin); stored || !lin.Present() {
				continue
			}
			switch yes, unsure := q.targets(lin.Module()); {
			case yes && unsure:
				c.unsure(rulePlain, atTensor(lin.Weight), "look at the patterns of quantization_config", "it is stored plain, and whether quantization_config ignores it depends on a pattern that Go cannot read")
			case yes:
				c.refuse(rulePlain, atTensor(lin.Weight), "add its module to ignore in quantization_config", "it is stored plain although quantization_config says that it is quantized")
			}
		}
	}
}

// transforms looks at rotations that a runtime has to apply to activations.
func (c *checker) transforms() {
	online := c.c.facts().quant.online
	if len(online) == 0 {
		return
	}
	at, fix := atKey("quantization_config.transform_config"), "rotate offline alone: by weight_input and weight_output"
	switch c.target {
	case "vllm":
		c.require(ruleTransform, at, "use a release with vLLM #22486, and not for the inputs of the last projection of an FFN (#33661), or "+fix, "it transforms activations at run time (%s)", join(online))
	case "hf", "llama.cpp", "mlx":
		c.refuse(ruleTransform, at, fix, "it does not transform activations at run time (%s)", join(online))
	default:
		c.unsure(ruleTransform, at, fix, "whether it transforms activations at run time (%s) has not been looked at", join(online))
	}
}
