package arch

// qwen2 is Qwen2 and Qwen2.5 (arXiv:2407.10671): Llama with biases on q, k and v.
var qwen2 = family{
	name: "qwen2", class: "Qwen2ForCausalLM", keys: decoderKeys, names: decoderNames, packed: true, kvRequired: true,
	qkvBias: true, perLayer: append([]string{"sliding_window"}, decoderPerLayer...), act: siluOnly,
	check: decoderCheck, window: qwenWindow,
}

// qwen3 is the dense Qwen3 (arXiv:2505.09388): no biases, RMSNorm on each head of q and k before the rotation.
var qwen3 = family{
	name: "qwen3", class: "Qwen3ForCausalLM", keys: decoderKeys, names: qwen3Names(), packed: true, kvRequired: true,
	headDim: 128, biasKeys: true, perLayer: append([]string{"sliding_window"}, decoderPerLayer...), act: siluOnly,
	check: decoderCheck, window: qwenWindow,
}

func qwen3Names() names {
	n := decoderNames
	n.qNorm, n.kNorm = "self_attn.q_norm", "self_attn.k_norm"
	return n
}

// qwenWindow: the window holds from layer max_window_layers on, and only where use_sliding_window is set. layer_types,
// where present, decides layer by layer.
func qwenWindow(f *fields, layers int) []int {
	out := make([]int, layers)
	w := f.integerOr("sliding_window", 4096, 1, maxPosition)
	if v, present := f.obj["sliding_window"]; present && string(v) == "null" {
		w = 0
	}
	first := f.integerOr("max_window_layers", 28, 0, maxPosition)
	if !f.boolOr("use_sliding_window", false) {
		w = 0
	}
	for l := first; l < layers; l++ {
		out[l] = w
	}
	return layerTypes(f, out, w)
}
