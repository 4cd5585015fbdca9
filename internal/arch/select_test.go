package arch

import (
	"reflect"
	"slices"
	"testing"

	"modelpress/internal/testmodel"
)

func described(t *testing.T, config []byte) *Model {
	t.Helper()
	m, err := DescribeConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSelectNames(t *testing.T) {
	for _, c := range []struct {
		options testmodel.Options
		layers  []int
		want    []string // of the new layer 1
	}{
		{testmodel.Options{Layers: 4, G: 2, Bias: true}, []int{0, 3}, []string{
			"model.layers.1.input_layernorm.weight", "model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.bias",
			"model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.k_proj.bias", "model.layers.1.self_attn.v_proj.weight",
			"model.layers.1.self_attn.v_proj.bias", "model.layers.1.self_attn.o_proj.weight", "model.layers.1.self_attn.o_proj.bias",
			"model.layers.1.post_attention_layernorm.weight", "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.gate_proj.bias",
			"model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.bias", "model.layers.1.mlp.down_proj.weight",
			"model.layers.1.mlp.down_proj.bias"}},
		{testmodel.Options{Family: "gpt2", Layers: 13}, []int{2, 12}, []string{
			"transformer.h.1.ln_1.weight", "transformer.h.1.ln_1.bias", "transformer.h.1.attn.c_attn.weight", "transformer.h.1.attn.c_attn.bias",
			"transformer.h.1.attn.c_proj.weight", "transformer.h.1.attn.c_proj.bias", "transformer.h.1.ln_2.weight", "transformer.h.1.ln_2.bias",
			"transformer.h.1.mlp.c_fc.weight", "transformer.h.1.mlp.c_fc.bias", "transformer.h.1.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.bias"}},
		{testmodel.Options{Family: "qwen3", H: 4, G: 2, K: 32, Layers: 11}, []int{1, 10}, []string{
			"model.layers.1.input_layernorm.weight", "model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight",
			"model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.q_norm.weight", "model.layers.1.self_attn.k_norm.weight",
			"model.layers.1.self_attn.o_proj.weight", "model.layers.1.post_attention_layernorm.weight", "model.layers.1.mlp.gate_proj.weight",
			"model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"}},
	} {
		m := described(t, testmodel.New(c.options).Config)
		before := m.Clone()
		n := m.Select(c.layers)
		if got := n.LayerTensors(1); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", m.Family, got)
		}
		if !reflect.DeepEqual(m, before) {
			t.Errorf("%s: the model itself changed", m.Family)
		}
	}
}

// The layers of a short model are those of a long one, and the long one is its own selection.
func TestSelectDescribes(t *testing.T) {
	for _, c := range testmodel.Cases() {
		o := c.Options
		o.Layers, o.PerLayer = 3, nil
		short := described(t, testmodel.New(o).Config)
		o.Layers = 12
		long := described(t, testmodel.New(o).Config)
		if got := long.Select([]int{1, 10, 11}); !reflect.DeepEqual(got, short) {
			t.Errorf("%s: %+v, want %+v", c.Name, got, short)
		}
		all := make([]int, 12)
		for l := range all {
			all[l] = l
		}
		if !reflect.DeepEqual(long.Select(all), long) {
			t.Errorf("%s: all layers are another model", c.Name)
		}
	}
	// Windows and sizes go with their layers; the first layer that attends has the head dim.
	m := described(t, edit(t, testmodel.New(testmodel.Options{Family: "mistral", Layers: 3, Window: 8}).Config, set{
		"per_layer_config": set{"1": set{"skip": []string{"attention"}}, "2": set{"intermediate_size": 10}},
		"layer_types":      []string{"full_attention", "full_attention", "sliding_attention"}}))
	n := m.Select([]int{1, 2})
	if n.Layers[0].HasAttention() || n.Layers[1].F != 10 || n.Layers[1].Window != 8 || n.Rope.Dim != 8 || len(m.Layers) != 3 {
		t.Errorf("%+v", n.Layers)
	}
	if n = m.Select([]int{2, 2}); n.Layers[0].Linears[Q].Weight != "model.layers.0.self_attn.q_proj.weight" || n.Layers[1].F != 10 {
		t.Errorf("a layer twice: %+v", n.Layers)
	}
	for _, bad := range []int{-1, 3} {
		if !panics(func() { m.Select([]int{bad}) }) {
			t.Errorf("layer %d is selected", bad)
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

func TestLayerOf(t *testing.T) {
	llama := described(t, testmodel.New(testmodel.Options{Layers: 11}).Config)
	src := testmodel.Named("gpt2")
	first, err := Describe(src.Config, bare{src})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		m       *Model
		name    string
		layer   int
		renamed string
	}{
		{llama, "model.layers.10.self_attn.rotary_emb.inv_freq", 10, "model.layers.7.self_attn.rotary_emb.inv_freq"},
		{llama, "model.layers.1.mlp.up_proj.weight", 1, "model.layers.7.mlp.up_proj.weight"},
		{llama, "model.layers.01.mlp.up_proj.weight", -1, ""},
		{llama, "model.layers.+1.mlp.up_proj.weight", -1, ""},
		{llama, "model.layers.11.mlp.up_proj.weight", -1, ""}, // a layer that config.json does not count
		{llama, "model.layers.1", -1, ""},
		{llama, "model.layers..weight", -1, ""},
		{llama, "model.embed_tokens.weight", -1, ""},
		{llama, "lm_head.weight", -1, ""},
		{first, "h.1.attn.bias", 1, "h.7.attn.bias"},
		{first, "transformer.h.1.attn.bias", -1, ""},
		{&Model{Layers: make([]Layer, 2)}, "1.weight", -1, ""},
	} {
		want := c.renamed
		if c.layer < 0 {
			want = c.name
		}
		if l, got := c.m.LayerOf(c.name), c.m.Renumbered(c.name, 7); l != c.layer || got != want {
			t.Errorf("%s is of layer %d and becomes %s", c.name, l, got)
		}
	}
	for l := range llama.Layers {
		for _, name := range llama.LayerTensors(l) {
			if llama.LayerOf(name) != l {
				t.Errorf("%s is of layer %d", name, llama.LayerOf(name))
			}
		}
	}
}

// A resized model is what its configuration describes.
func TestResize(t *testing.T) {
	const heads, kv, ffn = "num_attention_heads", "num_key_value_heads", "intermediate_size"
	for _, c := range []struct {
		base   string
		d      int
		sizes  []LayerSize
		change set
	}{
		{"llama-bias", 48, []LayerSize{{6, 3, 96}, {6, 3, 96}}, set{"hidden_size": 48, heads: 6, kv: 3, ffn: 96}},
		{"llama-pruned", 32, []LayerSize{{8, 4, 32}, {0, 0, 192}, {}, {4, 2, 0}}, set{"hidden_size": 32, "per_layer_config": set{
			"0": set{ffn: 32}, "1": set{"skip": []string{"attention"}}, "2": set{"skip": []string{"attention", "mlp"}}, "3": set{heads: 4, kv: 2, "skip": []string{"mlp"}}}}},
		{"llama-gqa", 64, []LayerSize{{0, 0, 192}, {4, 1, 192}}, set{heads: 4, kv: 1, "per_layer_config": set{"0": set{"skip": []string{"attention"}}}}},
		{"qwen2-tied", 56, []LayerSize{{4, 1, 0}, {4, 1, 8}}, set{"hidden_size": 56, heads: 4, kv: 1, ffn: 8, "per_layer_config": set{"0": set{"skip": []string{"mlp"}}}}},
		{"qwen3", 24, []LayerSize{{2, 1, 192}, {4, 2, 192}}, set{"hidden_size": 24, "per_layer_config": set{"0": set{heads: 2, kv: 1}}}},
		{"gpt2", 40, []LayerSize{{5, 5, 24}, {5, 5, 24}}, set{"n_embd": 40, "n_head": 5, "n_inner": 24}},
	} {
		src := testmodel.Named(c.base)
		m := described(t, src.Config)
		before := m.Clone()
		want := described(t, edit(t, src.Config, c.change))
		if got := m.Resize(c.d, c.sizes); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", c.base, got, want)
		}
		if !reflect.DeepEqual(m, before) {
			t.Errorf("%s: the model itself changed", c.base)
		}
		same := make([]LayerSize, len(m.Layers))
		for l := range same {
			same[l] = m.Layers[l].Size()
		}
		if !reflect.DeepEqual(m.Resize(m.D, same), m) {
			t.Errorf("%s: the same sizes are another model", c.base)
		}
	}
	m := described(t, testmodel.Named("llama-pruned").Config)
	ok := []LayerSize{{8, 4, 192}, {0, 0, 192}, {4, 2, 96}, {8, 4, 0}}
	for l, bad := range []LayerSize{{8, 3, 1}, {8, 8, 1}, {4, 0, 96}, {8, 4, 1}} {
		sizes := slices.Clone(ok)
		sizes[l] = bad
		if !panics(func() { m.Resize(64, sizes) }) {
			t.Errorf("layer %d is resized to %+v", l, bad)
		}
	}
	if m.Resize(64, ok).D != 64 || !panics(func() { m.Resize(0, ok) }) || !panics(func() { m.Resize(64, ok[1:]) }) {
		t.Error("width 0 or too few layers are accepted")
	}
}

func TestConfigKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		want ConfigKeys
	}{
		{"llama-mha", ConfigKeys{"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"}},
		{"qwen3", ConfigKeys{"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"}},
		{"gpt2", ConfigKeys{"n_embd", "n_layer", "n_head", "", "", "n_inner"}},
	} {
		if got := described(t, testmodel.Named(c.name).Config).ConfigKeys(); got != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if got := (&Model{Family: "opt"}).ConfigKeys(); got != (ConfigKeys{}) {
		t.Errorf("%+v", got)
	}
}
