package pipeline

// llamaCppBuild is the oldest build of llama.cpp that models were loaded in with their logits compared with a reference.
const llamaCppBuild = "c392e50 (2025-02-20)"

// minVersion returns the oldest release or build that is known to load the candidate, which nothing refuses.
func (c *checker) minVersion() string {
	quantized := len(c.uses()) > 0
	switch {
	case c.is("hf") && !c.c.GGUF && !quantized:
		return c.transformers()
	case c.is("llama.cpp"):
		return c.llamaCpp(quantized)
	}
	return notKnown
}

// transformers: its Llama reads head_dim from about 4.45 on, and reference logits of the families below were computed in 4.47.
func (c *checker) transformers() string {
	switch {
	case c.m.Family == "llama" && c.m.Rope.Type == "default":
		return "about 4.45"
	case oneOf(c.m.Family, "llama", "mistral", "qwen2", "gpt2"):
		return "4.47"
	}
	return notKnown
}

// llamaCpp: Llama (with it Mistral), layers of their own sizes, and Qwen2 were compared with references, in the types below. Its
// converter of quantized checkpoints was looked at in 2026.
func (c *checker) llamaCpp(quantized bool) string {
	switch {
	case !oneOf(c.m.Family, "llama", "mistral", "qwen2"):
		return notKnown
	case !c.c.GGUF && quantized:
		return "its converter of 2026"
	}
	for _, u := range c.uses() {
		if !oneOf(u.Layout, "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q4_1", "Q5_0", "Q3_K", "Q2_K") {
			return notKnown
		}
	}
	return llamaCppBuild
}
