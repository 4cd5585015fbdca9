package pipeline

import "slices"

// settings checks keys of config.json that loaders read in different ways.
func (c *checker) settings() {
	if c.c.GGUF || c.c.facts().keys == nil {
		return
	}
	f := c.c.facts()
	if c.is("mlx") && c.m.Rope != nil && !c.m.Tied && f.missing("tie_word_embeddings") && (c.m.Family == "llama" || c.m.Family == "mistral") {
		c.refuse(ruleTied, atKey("tie_word_embeddings"), "write tie_word_embeddings: false", "it takes the missing key for true and drops the head; transformers takes it for false")
	}
	if c.is("sglang") && f.null("head_dim") {
		c.require(ruleHeadDim, atKey("head_dim"), "write the number", "its older releases take null for the width of a head")
	}
}

// windows checks sliding windows.
func (c *checker) windows() {
	if c.c.GGUF {
		return
	}
	f := c.c.facts()
	if c.m.Family == "llama" {
		c.llamaWindows(f)
		return
	}
	window, even := c.widest()
	if window == 0 {
		return
	}
	at := atKey("sliding_window")
	switch c.target {
	case "vllm":
		if !even && len(f.layerTypes) == 0 {
			c.require(ruleLayerTypes, atKey("layer_types"), "write layer_types beside sliding_window", "it takes sliding_window without layer_types for the window of all layers, and some of these attend to everything")
		}
		if c.m.Family == "qwen3" {
			c.require(ruleWindows, at, "use a release that honours it (vLLM #39514), or contexts of up to that length", "it did not honour windows of Qwen3, and attends to everything past %d tokens", window)
		}
	case "sglang":
		c.unsure(ruleWindows, at, "keep contexts to that length, or compare outputs", "whether it honours the window of %d tokens for %s has not been looked at", window, c.m.Architecture)
	case "tensorrt-llm":
		c.require(ruleWindows, at, "set kv_cache_config.max_attention_window layer by layer", "its releases before #18767 do not derive the windows from layer_types")
	case "llama.cpp":
		c.full(window, "its graph of this family attends to everything")
	case "mlx":
		c.mlxWindows(f, window)
	}
}

// widest returns the widest window of a layer, 0 where none slides, and whether all layers have the same.
func (c *checker) widest() (window int, even bool) {
	even = true
	for l := range c.m.Layers {
		w := c.m.Layers[l].Window
		even = even && w == c.m.Layers[0].Window
		window = max(window, w)
	}
	return window, even
}

// full is the condition of a target that attends to everything: contexts within the narrowest window.
func (c *checker) full(window int, rule string) {
	for l := range c.m.Layers {
		if w := c.m.Layers[l].Window; w > 0 {
			window = min(window, w)
		}
	}
	if c.m.MaxPosition > window {
		c.require(ruleWindows, atKey("sliding_window"), "keep contexts to that length", "%s: right for contexts of up to %d tokens", rule, window)
	}
}

func (c *checker) mlxWindows(f *configFacts, window int) {
	switch {
	case c.m.Family != "mistral":
		c.unsure(ruleWindows, atKey("sliding_window"), "keep contexts to that length, or compare outputs", "whether it honours the window of %d tokens for %s has not been looked at", window, c.m.Architecture)
	case len(f.layerTypes) == 0:
		c.full(window, "without layer_types its class for Llama and Mistral attends to everything")
	case !slices.Contains(f.layerTypes, "full_attention"):
		c.refuse(ruleLayerTypes, atKey("layer_types"), "remove layer_types, and keep contexts to the window", "its class for Llama and Mistral looks for a layer of full attention, and there is none")
	}
}

// llamaWindows finds windows that transformers does not read for Llama and others do.
func (c *checker) llamaWindows(f *configFacts) {
	if !f.slides() || !c.is("vllm", "mlx") {
		return
	}
	if c.is("mlx") && len(f.layerTypes) == 0 {
		return
	}
	c.require(ruleLlamaSlide, atKey("sliding_window"), "remove sliding_window and layer_types", "it applies sliding windows to Llama, which transformers does not: past the window, outputs differ")
}
