package arch

import (
	"slices"
	"testing"

	"modelpress/internal/testmodel"
)

func TestFusedModules(t *testing.T) {
	m, err := DescribeConfig(testmodel.Named("llama-gqa").Config)
	if err != nil {
		t.Fatal(err)
	}
	at := func(names ...string) []string {
		var out []string
		for _, n := range names {
			out = append(out, "model.layers.1."+n)
		}
		return out
	}
	for _, c := range []struct{ modules, want []string }{
		{nil, nil},
		{at("self_attn.q_proj", "self_attn.k_proj"), nil},
		{at("self_attn.v_proj", "self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj"), at("self_attn.qkv_proj")},
		{at("mlp.down_proj", "mlp.up_proj", "mlp.gate_proj"), at("mlp.gate_up_proj")},
	} {
		if got := m.FusedModules(c.modules); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.modules, got, c.want)
		}
	}
	one := m.Clone()
	one.Layers[1].Linears[Gate] = Linear{}
	if got := one.FusedModules(at("mlp.up_proj")); got != nil {
		t.Errorf("one module is fused with none: %v", got)
	}
	gpt, err := DescribeConfig(testmodel.Named("gpt2").Config)
	if err != nil {
		t.Fatal(err)
	}
	if got := gpt.FusedModules([]string{"transformer.h.0.attn.c_attn"}); got != nil {
		t.Errorf("what is stored as one tensor: %v", got)
	}
	if got := FusedRoles(); len(got) != 2 || !slices.Equal(got[0], []Role{Q, K, V}) || !slices.Equal(got[1], []Role{Gate, Up}) {
		t.Errorf("groups %v", got)
	}
}

func TestConv1D(t *testing.T) {
	is := Conv1D(testmodel.Named("gpt2").Config)
	for name, want := range map[string]bool{
		"transformer.h.0.attn.c_attn": true, "h.1.mlp.c_proj": true, "transformer.wte": false, "lm_head": false, "transformer.h.999.mlp.c_fc": false, "": false,
	} {
		if is(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
	for _, config := range [][]byte{testmodel.Named("llama-gqa").Config, []byte(`{}`), []byte(`[`), nil} {
		if Conv1D(config)("model.layers.0.self_attn.q_proj") {
			t.Errorf("%.40s: a linear module is a Conv1D", config)
		}
	}
}
