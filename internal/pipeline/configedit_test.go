package pipeline

import (
	"encoding/json"
	"slices"
	"testing"

	"modelpress/formats/hf"
	"modelpress/formats/planfile"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// TestConfigEdits: keys that loaders read in different ways where they are missing are written out, and nothing else.
func TestConfigEdits(t *testing.T) {
	rotary := func(tied bool) *arch.Model {
		return &arch.Model{Family: "llama", Rope: &arch.Rope{}, Tied: tied, Layers: []arch.Layer{{K: 32}, {K: 32}}}
	}
	for _, c := range []struct {
		name, config string
		m, view      *arch.Model
		want         string
	}{
		{"nothing", `{"head_dim": 32, "tie_word_embeddings": false}`, rotary(false), rotary(false), ``},
		{"missing", `{}`, rotary(false), rotary(false), `tie_word_embeddings=false head_dim=32 `},
		{"null", `{"head_dim": null, "tie_word_embeddings": true}`, rotary(true), rotary(true), `head_dim=32 `},
		{"untied", `{"head_dim": 32, "tie_word_embeddings": true}`, rotary(true), rotary(false), `tie_word_embeddings=false `},
		{"learned positions", `{}`, &arch.Model{Family: "gpt2", Tied: true, Layers: []arch.Layer{{K: 32}}}, &arch.Model{Family: "gpt2", Tied: true, Layers: []arch.Layer{{K: 32}}}, ``},
		{"mixed widths", `{"tie_word_embeddings": false}`, &arch.Model{Family: "llama", Rope: &arch.Rope{}, Layers: []arch.Layer{{K: 32}, {K: 16}}}, rotary(false), ``},
	} {
		set, err := configEdits([]byte(c.config), c.m, c.view, nil, nil)
		got := ""
		for _, kv := range set {
			v, _ := json.Marshal(kv.Value)
			got += kv.Key + "=" + string(v) + " "
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

// TestRopeScaling: a manifest has the whole of the scaling, wherever config.json keeps it.
func TestRopeScaling(t *testing.T) {
	for config, want := range map[string]string{
		`{}`:                     `null`,
		`{"rope_scaling": null}`: `null`,
		`{"rope_scaling": {"type": "linear", "factor": 2.0}}`: `{"factor":2,"type":"linear"}`,
		`{"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}`: `{"factor":8,"high_freq_factor":4,"low_freq_factor":1,"original_max_position_embeddings":8192,"rope_type":"llama3"}`,
		`{"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}`:                                                                                `null`,
		`{"rope_parameters": {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0}}`:                                                                    `{"factor":4,"rope_type":"yarn"}`,
	} {
		if got, _ := json.Marshal(ropeScaling([]byte(config))); string(got) != want {
			t.Errorf("%s: %s, want %s", config, got, want)
		}
	}
}

// TestCheckFiles: what the plan does not name, or names with another digest, does not get into a result.
func TestCheckFiles(t *testing.T) {
	a := &applier{plan: &planfile.Plan{Output: planfile.Output{Shards: []planfile.Shard{{File: "model.safetensors"}},
		Files: []planfile.OutputFile{{Name: configName}, {Name: reportName}, {Name: "tokenizer.json", SHA256: "a"}}}}}
	sound := []fileSum{{Name: configName}, {Name: "model.safetensors"}, {Name: "tokenizer.json", SHA256: "a"}}
	if err := a.checkFiles(sound); err != nil {
		t.Error(err)
	}
	for name, files := range map[string][]fileSum{
		"extra":   append([]fileSum{{Name: "config.json.partial"}}, sound...),
		"missing": sound[1:],
		"other":   {sound[0], sound[1], {Name: "tokenizer.json", SHA256: "b"}},
	} {
		if err := a.checkFiles(files); KindOf(err) != KindGate {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKVHeadEdits: config.json has the number of KV heads that most layers have, and per_layer_config for the others, in the names of
// layers that it had; what else it says of a layer stays.
func TestKVHeadEdits(t *testing.T) {
	heads := func(list ...int) *arch.Model {
		m := &arch.Model{Family: "llama"}
		for _, g := range list {
			m.Layers = append(m.Layers, arch.Layer{G: g, H: 8 * min(g, 1), K: 8})
		}
		return m
	}
	const n = `num_key_value_heads`
	for _, c := range []struct {
		name, config string
		m, view      *arch.Model
		want         string
	}{
		{"nothing changes", `{"` + n + `": 4}`, heads(4, 4), heads(4, 4), ``},
		{"nothing changes where layers differ", `{"` + n + `": 4, "per_layer_config": {"1": {"` + n + `": 2}}}`, heads(4, 2), heads(4, 2), ``},
		{"uniform", `{"` + n + `": 4}`, heads(4, 4), heads(2, 2), n + `=2 `},
		{"as many as query heads before", `{}`, heads(8, 8), heads(2, 2), n + `=2 `},
		{"one of three", `{"` + n + `": 4}`, heads(4, 4, 4), heads(2, 1, 2), n + `=2 per_layer_config={"01":{"` + n + `":1}} `},
		{"a tie: the larger", `{"` + n + `": 4}`, heads(4, 4), heads(1, 2), n + `=2 per_layer_config={"00":{"` + n + `":1}} `},
		{"all differ", `{"` + n + `": 4}`, heads(4, 4, 4), heads(1, 4, 2), n + `=4 per_layer_config={"00":{"` + n + `":1},"02":{"` + n + `":2}} `},
		{"null before", `{"per_layer_config": null}`, heads(4, 4), heads(2, 4), n + `=4 per_layer_config={"00":{"` + n + `":2}} `},
		{"empty before", `{"per_layer_config": {}}`, heads(4, 4), heads(2, 2), n + `=2 `},
		{"names without zeros stay", `{"per_layer_config": {"1": {"intermediate_size": 96}}}`, heads(4, 4, 4), heads(2, 1, 2),
			n + `=2 per_layer_config={"1":{"intermediate_size":96,"` + n + `":1}} `},
		{"names with zeros stay", `{"per_layer_config": {"001": {"intermediate_size": 96}}}`, heads(4, 4, 4), heads(2, 1, 2),
			n + `=2 per_layer_config={"001":{"intermediate_size":96,"` + n + `":1}} `},
		{"mixed names", `{"per_layer_config": {"1": {"` + n + `": 2}, "02": {"` + n + `": 2}}}`, heads(4, 2, 2, 4), heads(4, 1, 1, 2),
			n + `=1 per_layer_config={"00":{"` + n + `":4},"03":{"` + n + `":2}} `},
		{"what became the default goes", `{"per_layer_config": {"0": {"` + n + `": 2}, "1": {"` + n + `": 2, "intermediate_size": 96}}}`, heads(2, 2, 4), heads(2, 2, 2),
			n + `=2 per_layer_config={"1":{"intermediate_size":96}} `},
		{"all of it goes", `{"per_layer_config": {"0": {"` + n + `": 2}}}`, heads(2, 4), heads(2, 2), n + `=2 per_layer_config={} `},
		{"an entry that is null", `{"per_layer_config": {"0": null}}`, heads(4, 4, 4), heads(1, 2, 2), n + `=2 per_layer_config={"0":{"` + n + `":1}} `},
		{"layers without attention have no say", `{"per_layer_config": {"01": {"skip": ["attention"]}, "02": {"skip": ["attention"]}}}`, heads(4, 0, 0), heads(2, 0, 0),
			n + `=2 per_layer_config={"01":{"skip":["attention"]},"02":{"skip":["attention"]}} `},
		{"numbers stay as they are written", `{"per_layer_config": {"00": {"rope_theta": 10000.0, "seed": 9007199254740993}}}`, heads(4, 4), heads(2, 2),
			n + `=2 per_layer_config={"00":{"rope_theta":10000.0,"seed":9007199254740993}} `},
		{"a hundred layers", `{}`, heads(slices.Repeat([]int{4}, 101)...), heads(append(slices.Repeat([]int{2}, 100), 1)...), n + `=2 per_layer_config={"100":{"` + n + `":1}} `},
	} {
		var have map[string]json.RawMessage
		if err := json.Unmarshal([]byte(c.config), &have); err != nil {
			t.Fatal(err)
		}
		have["head_dim"] = json.RawMessage("8")
		set, err := sizeEdits(have, c.m, c.view, nil)
		got := ""
		for _, kv := range set {
			v, err := json.Marshal(kv.Value)
			if err != nil {
				t.Fatal(err)
			}
			got += kv.Key + "=" + string(v) + " "
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	if _, err := sizeEdits(map[string]json.RawMessage{"per_layer_config": json.RawMessage(`[1]`)}, heads(4), heads(2), nil); err == nil {
		t.Error("per_layer_config of another shape is overwritten")
	}
}

// TestKVHeadEditsDescribe: the edited config.json describes the very layers that are written.
func TestKVHeadEditsDescribe(t *testing.T) {
	for _, name := range []string{"llama-pruned", "llama-gqa", "qwen2", "mistral-swa"} {
		m := testmodel.Named(name)
		before, err := arch.DescribeConfig(m.Config)
		if err != nil {
			t.Fatal(err)
		}
		view := before.Clone()
		for l := range view.Layers {
			if a := &view.Layers[l]; a.HasAttention() && l != 1 {
				a.G = 1
			}
		}
		set, err := configEdits(m.Config, before, view, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		edited, err := hf.EditConfig(m.Config, set, nil)
		if err != nil {
			t.Fatal(err)
		}
		after, err := arch.DescribeConfig(edited)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, edited)
		}
		for l := range view.Layers {
			a, b := &view.Layers[l], &after.Layers[l]
			if a.G != b.G || a.H != b.H || a.K != b.K || a.F != b.F || a.HasAttention() != b.HasAttention() {
				t.Errorf("%s: layer %d: %d of %d heads, want %d of %d", name, l, b.G, b.H, a.G, a.H)
			}
		}
	}
}
