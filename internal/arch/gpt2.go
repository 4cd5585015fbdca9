package arch

// gpt2 is GPT-2: LayerNorm, learned positions, one transposed tensor for q, k and v. The first release names its
// tensors without "transformer.".
var gpt2 = family{
	name: "gpt2", class: "GPT2LMHeadModel", layerNorm: true, tied: true, fused: true,
	keys: keys{d: "n_embd", heads: "n_head", layers: "n_layer", ffn: "n_inner", position: "n_positions",
		eps: "layer_norm_epsilon"},
	names: names{
		prefixes: []string{"transformer.", ""},
		embed:    "wte.weight", pos: "wpe.weight", norm: "ln_f", head: "lm_head.weight", layer: "h.",
		attnNorm: "ln_1", ffnNorm: "ln_2",
		linear: [NumRoles]string{Q: "attn.c_attn", K: "attn.c_attn", V: "attn.c_attn", O: "attn.c_proj",
			Up: "mlp.c_fc", Down: "mlp.c_proj"},
	},
	perLayer: []string{"n_inner"}, act: gpt2Activation, check: gpt2Check,
}

func gpt2Activation(f *fields) Activation {
	switch a := f.stringOr("activation_function", "gelu_new"); a {
	case "gelu_new", "gelu_pytorch_tanh", "gelu_fast": // three writings of the tanh form
		return GELUTanh
	case "gelu":
		return GELUErf
	default:
		f.fault("activation_function", "%q is not supported, only gelu_new, gelu_pytorch_tanh, gelu_fast and gelu", a)
		return GELUTanh
	}
}

// gpt2Check refuses the switches that change what attention computes. reorder_and_upcast_attn changes only the
// precision, which is f32 here anyway.
func gpt2Check(f *fields) {
	for _, s := range []struct {
		key  string
		want bool
	}{{"scale_attn_weights", true}, {"scale_attn_by_inverse_layer_idx", false}, {"add_cross_attention", false}} {
		if got := f.boolOr(s.key, s.want); got != s.want {
			f.fault(s.key, "%t is not supported", got)
		}
	}
}
