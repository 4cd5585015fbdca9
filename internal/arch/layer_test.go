package arch

import (
	"slices"
	"testing"

	"modelpress/internal/testmodel"
)

func TestPerLayerConfig(t *testing.T) {
	base := edit(t, testmodel.Named("llama-gqa").Config, set{"num_hidden_layers": 4})
	m, err := DescribeConfig(edit(t, base, set{"per_layer_config": set{
		"00": set{"intermediate_size": 100},
		"1":  set{"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 16},
		"2":  set{"skip": []string{"attention"}},
		"03": set{"skip": []string{"attention", "mlp"}},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	type sizes struct{ h, g, k, f int }
	want := []sizes{{8, 2, 8, 100}, {6, 3, 16, 192}, {0, 0, 0, 192}, {0, 0, 0, 0}}
	for l, a := range m.Layers {
		if got := (sizes{a.H, a.G, a.K, a.F}); got != want[l] {
			t.Errorf("layer %d: %v, want %v", l, got, want[l])
		}
	}
	if n := len(m.LayerTensors(3)); n != 0 {
		t.Errorf("empty layer has %d tensors", n)
	}
	if got := m.LayerTensors(2); !slices.Equal(got, []string{"model.layers.2.post_attention_layernorm.weight",
		"model.layers.2.mlp.gate_proj.weight", "model.layers.2.mlp.up_proj.weight", "model.layers.2.mlp.down_proj.weight"}) {
		t.Errorf("layer 2: %q", got)
	}
	if o := m.Layers[1].Linears[O]; o.In != 96 || o.Out != 64 {
		t.Errorf("o is %+v", o)
	}
	if got := m.KVBytesPerToken(1); got != 2*(2*8+3*16) {
		t.Errorf("%d bytes a token", got)
	}
	if s := m.Layers[2].Sites(); !slices.Equal(s, []Site{SiteGateUp, SiteDown}) {
		t.Errorf("sites %v", s)
	}
}

func TestFaultyPerLayerConfig(t *testing.T) {
	base := testmodel.Named("llama-gqa").Config
	for _, c := range []struct {
		config any
		key    string
		cause  string
	}{
		{5, "per_layer_config", "not a valid JSON object"},
		{set{"2": set{}}, "per_layer_config.2", "there are 2 layers"},
		{set{"-1": set{}}, "per_layer_config.-1", "not the number"},
		{set{"x": set{}}, "per_layer_config.x", "not the number"},
		{set{"": set{}}, "per_layer_config.", "not the number"},
		{set{"1": set{}, "01": set{}}, "per_layer_config.1", "stands twice"},
		{set{"99999999999999999999": set{}}, "per_layer_config.99999999999999999999", "not the number"},
		{set{"1": set{"hidden_size": 4}}, "per_layer_config.1.hidden_size", "not supported"},
		{set{"1": set{"num_attention_heads": 0}}, "per_layer_config.1.num_attention_heads", "lies outside"},
		{set{"1": set{"num_key_value_heads": 3}}, "per_layer_config.1.num_key_value_heads", "do not divide"},
		{set{"1": set{"head_dim": 9}}, "per_layer_config.1.head_dim", "is odd"},
		{set{"1": set{"skip": []string{"norm"}}}, "per_layer_config.1.skip", "neither"},
		{set{"1": set{"skip": "mlp"}}, "per_layer_config.1.skip", "not a list"},
	} {
		_, err := DescribeConfig(edit(t, base, set{"per_layer_config": c.config}))
		if c.key == "per_layer_config." {
			c.key = "per_layer_config"
		}
		wantFault(t, err, c.key, c.cause)
	}
	_, err := DescribeConfig(edit(t, testmodel.Named("gpt2").Config, set{"per_layer_config": set{"0": set{"n_head": 4}}}))
	wantFault(t, err, "per_layer_config.0.n_head", "not supported")
}

func TestRope(t *testing.T) {
	base := testmodel.Named("llama-gqa").Config
	def := Rope{Theta: 10000, Dim: 8, Type: "default", Truncate: true}
	with := func(f func(r *Rope)) Rope { r := def; f(&r); return r }
	for name, c := range map[string]struct {
		keys set
		want Rope
	}{
		"none":     {set{"rope_scaling": nil}, def},
		"no theta": {set{"rope_theta": remove{}}, def},
		"default":  {set{"rope_scaling": set{"rope_type": "default"}}, def},
		"v5": {set{"rope_scaling": remove{}, "rope_theta": remove{}, "rope_parameters": set{"rope_theta": 5e5, "rope_type": "default"}},
			with(func(r *Rope) { r.Theta = 5e5 })},
		"v5 without type": {set{"rope_parameters": set{"rope_theta": 5e5}}, with(func(r *Rope) { r.Theta = 5e5 })},
		"old key":         {set{"rope_scaling": set{"type": "linear", "factor": 2}}, with(func(r *Rope) { r.Type, r.Factor = "linear", 2 })},
		"both keys": {set{"rope_scaling": set{"type": "yarn", "rope_type": "linear", "factor": 2}},
			with(func(r *Rope) { r.Type, r.Factor = "linear", 2 })},
		"dynamic": {set{"rope_scaling": set{"type": "dynamic", "factor": 2, "original_max_position_embeddings": 64}},
			with(func(r *Rope) { r.Type, r.Factor, r.OriginalMaxPosition = "dynamic", 2, 256 })},
		"llama3": {set{"rope_scaling": set{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}},
			with(func(r *Rope) {
				r.Type, r.Factor, r.LowFreqFactor, r.HighFreqFactor, r.OriginalMaxPosition = "llama3", 8, 1, 4, 64
			})},
		"yarn": {set{"rope_scaling": set{"rope_type": "yarn", "factor": 4}}, with(func(r *Rope) {
			r.Type, r.Factor, r.OriginalMaxPosition, r.BetaFast, r.BetaSlow = "yarn", 4, 256, 32, 1
		})},
		"yarn with all": {set{"rope_scaling": set{"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64, "beta_fast": 16,
			"beta_slow": 2, "attention_factor": 1.5, "mscale": 1, "mscale_all_dim": 0.5, "truncate": false}}, with(func(r *Rope) {
			r.Type, r.Factor, r.OriginalMaxPosition, r.BetaFast, r.BetaSlow = "yarn", 4, 64, 16, 2
			r.AttentionFactor, r.MScale, r.MScaleAllDim, r.Truncate = 1.5, 1, 0.5, false
		})},
	} {
		m, err := DescribeConfig(edit(t, base, c.keys))
		if err != nil || *m.Rope != c.want {
			t.Errorf("%s: %v; %+v", name, err, m)
		}
	}
}

func TestFaultyRope(t *testing.T) {
	base := testmodel.Named("llama-gqa").Config
	for _, c := range []struct {
		scaling    set
		key, cause string
	}{
		{set{}, "rope_scaling.rope_type", "is missing"},
		{set{"rope_type": "longrope", "factor": 2}, "rope_scaling.rope_type", "not supported"},
		{set{"rope_type": "linear"}, "rope_scaling.factor", "is missing"},
		{set{"rope_type": "linear", "factor": 0}, "rope_scaling.factor", "lies outside"},
		{set{"rope_type": "linear", "factor": "2"}, "rope_scaling.factor", "not a number"},
		{set{"rope_type": "llama3", "factor": 2}, "rope_scaling.low_freq_factor", "is missing"},
		{set{"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4, "original_max_position_embeddings": 64},
			"rope_scaling.high_freq_factor", "is not above"},
		{set{"rope_type": "yarn", "factor": 2, "truncate": 3}, "rope_scaling.truncate", "not true or false"},
		{set{"rope_type": "default", "partial_rotary_factor": 0.5}, "rope_scaling.partial_rotary_factor", "not supported"},
	} {
		_, err := DescribeConfig(edit(t, base, set{"rope_scaling": c.scaling}))
		wantFault(t, err, c.key, c.cause)
	}
	_, err := DescribeConfig(edit(t, base, set{"rope_scaling": set{"rope_type": "default"}, "rope_parameters": set{"rope_type": "default"}}))
	wantFault(t, err, "rope_parameters", "stands beside")
	_, err = DescribeConfig(edit(t, base, set{"rope_parameters": set{"full_attention": set{"rope_type": "default"}}}))
	wantFault(t, err, "rope_parameters.full_attention", "not supported")
}

func TestRolesAndSites(t *testing.T) {
	for _, r := range Roles() {
		if !slices.Contains(r.Site().Roles(), r) {
			t.Errorf("%s is not among the roles of %s", r, r.Site())
		}
	}
	m, err := DescribeConfig(testmodel.Named("gpt2").Config)
	if err != nil {
		t.Fatal(err)
	}
	l := &m.Layers[0]
	if got := l.Roles(); !slices.Equal(got, []Role{Q, K, V, O, Up, Down}) {
		t.Errorf("roles %v", got)
	}
	if l.Width(SiteQKV) != 64 || l.Width(SiteO) != 64 || l.Width(SiteGateUp) != 64 || l.Width(SiteDown) != 256 {
		t.Error("wrong widths")
	}
	c := m.Clone()
	c.Layers[0].H = 1
	if m.Layers[0].H == 1 {
		t.Error("a clone shares its layers")
	}
}
