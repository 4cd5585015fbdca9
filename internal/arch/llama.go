package arch

// decoderKeys and decoderNames are what Llama and the families after it share.
var decoderKeys = keys{
	d: "hidden_size", heads: "num_attention_heads", layers: "num_hidden_layers", ffn: "intermediate_size",
	position: "max_position_embeddings", eps: "rms_norm_eps",
}

var decoderNames = names{
	prefixes: []string{"model."},
	embed:    "embed_tokens.weight", norm: "norm", head: "lm_head.weight", layer: "layers.",
	attnNorm: "input_layernorm", ffnNorm: "post_attention_layernorm",
	linear: [NumRoles]string{Q: "self_attn.q_proj", K: "self_attn.k_proj", V: "self_attn.v_proj",
		O: "self_attn.o_proj", Gate: "mlp.gate_proj", Up: "mlp.up_proj", Down: "mlp.down_proj"},
}

var decoderPerLayer = []string{"num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"}

// llama is Llama 1 to 3 (arXiv:2302.13971, 2307.09288, 2407.21783). transformers reads no sliding window here, even
// where layer_types stands in the file, and neither do we.
var llama = family{
	name: "llama", class: "LlamaForCausalLM", keys: decoderKeys, names: decoderNames, packed: true, biasKeys: true,
	perLayer: decoderPerLayer, act: siluOnly, check: decoderCheck,
}

// siluOnly is the activation of a gated FFN.
func siluOnly(f *fields) Activation {
	if a := f.stringOr("hidden_act", "silu"); a != "silu" && a != "swish" {
		f.fault("hidden_act", "%q is not supported, only \"silu\"", a)
	}
	return SiLU
}

func decoderCheck(f *fields) {
	if p := f.numberOr("partial_rotary_factor", 1, 0, 1); p != 1 {
		f.fault("partial_rotary_factor", "%g is not supported, only 1", p)
	}
}
