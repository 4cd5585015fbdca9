package testmodel

import (
	"bytes"
	"encoding/json"
	"strconv"

	"modelpress/formats"
)

// entry is one key of a JSON object whose order matters.
type entry struct {
	key   string
	value any
}

func marshal(entries []entry) []byte {
	var b bytes.Buffer
	b.WriteString("{\n")
	for i, e := range entries {
		v, err := json.MarshalIndent(e.value, "  ", "  ")
		if err != nil {
			panic(err) // every value is ours
		}
		b.WriteString("  ")
		b.WriteString(quote(e.key))
		b.WriteString(": ")
		b.Write(v)
		if i+1 < len(entries) {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("}\n")
	return b.Bytes()
}

func quote(s string) string {
	q, _ := json.Marshal(s)
	return string(q)
}

func torchDType(d formats.DType) string {
	switch d {
	case formats.BF16:
		return "bfloat16"
	case formats.F16:
		return "float16"
	}
	return "float32"
}

var architectures = map[string]string{
	"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
	"qwen3": "Qwen3ForCausalLM", "gpt2": "GPT2LMHeadModel",
}

func configJSON(o *Options) []byte {
	if o.Family == "gpt2" {
		return gpt2Config(o)
	}
	var scaling any
	if o.Scaling != nil {
		scaling = o.Scaling
	}
	e := []entry{
		{"architectures", []string{architectures[o.Family]}},
		{"bos_token_id", o.BOS},
		{"eos_token_id", o.EOS},
		{"head_dim", o.K},
		{"hidden_act", "silu"},
		{"hidden_size", o.D},
		{"initializer_range", 0.02},
		{"intermediate_size", o.F},
		{"max_position_embeddings", o.Context},
		{"model_type", o.Family},
		{"num_attention_heads", o.H},
		{"num_hidden_layers", o.Layers},
		{"num_key_value_heads", o.G},
		{"rms_norm_eps", o.Eps},
		{"rope_theta", o.Theta},
		{"tie_word_embeddings", o.Tied},
		{"torch_dtype", torchDType(o.DType)},
		{"use_cache", true},
		{"vocab_size", o.V},
	}
	if o.Family != "mistral" {
		e = append(e, entry{"rope_scaling", scaling})
	}
	switch o.Family {
	case "llama":
		e = append(e, entry{"attention_bias", o.Bias}, entry{"mlp_bias", o.Bias})
	case "mistral":
		var window any
		if o.Window > 0 {
			window = o.Window
		}
		e = append(e, entry{"sliding_window", window})
	case "qwen2":
		e = append(e, entry{"max_window_layers", o.Layers}, entry{"sliding_window", nil},
			entry{"use_sliding_window", false})
	case "qwen3":
		e = append(e, entry{"attention_bias", false}, entry{"max_window_layers", o.Layers},
			entry{"sliding_window", nil}, entry{"use_sliding_window", false})
	}
	if len(o.PerLayer) > 0 {
		e = append(e, entry{"per_layer_config", perLayer(o)})
	}
	return marshal(e)
}

// perLayer returns the object of overrides; json.Marshal sorts its keys.
func perLayer(o *Options) map[string]map[string]any {
	out := map[string]map[string]any{}
	for l, s := range o.PerLayer {
		e := map[string]any{}
		for key, v := range map[string]int{"num_attention_heads": s.H, "num_key_value_heads": s.G,
			"intermediate_size": s.F} {
			if v > 0 {
				e[key] = v
			}
		}
		var skip []string
		if s.NoAttention {
			skip = append(skip, "attention")
		}
		if s.NoFeedFwd {
			skip = append(skip, "mlp")
		}
		if skip != nil {
			e["skip"] = skip
		}
		out[strconv.Itoa(l)] = e
	}
	return out
}

func gpt2Config(o *Options) []byte {
	var inner any
	if o.F != 4*o.D {
		inner = o.F
	}
	return marshal([]entry{
		{"activation_function", "gelu_new"},
		{"architectures", []string{architectures["gpt2"]}},
		{"bos_token_id", o.BOS},
		{"eos_token_id", o.EOS},
		{"initializer_range", 0.02},
		{"layer_norm_epsilon", o.Eps},
		{"model_type", "gpt2"},
		{"n_embd", o.D},
		{"n_head", o.H},
		{"n_inner", inner},
		{"n_layer", o.Layers},
		{"n_positions", o.Context},
		{"reorder_and_upcast_attn", false},
		{"scale_attn_by_inverse_layer_idx", false},
		{"scale_attn_weights", true},
		{"tie_word_embeddings", true},
		{"torch_dtype", torchDType(o.DType)},
		{"use_cache", true},
		{"vocab_size", o.V},
	})
}

func generationJSON(o *Options) []byte {
	return marshal([]entry{
		{"_from_model_config", true},
		{"bos_token_id", o.BOS},
		{"eos_token_id", o.EOS},
	})
}
