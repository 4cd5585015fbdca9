package pipeline

import (
	"encoding/json"
	"testing"

	"modelpress/formats/planfile"
	"modelpress/internal/arch"
)

// TestConfigEdits: keys that loaders read in different ways where they are missing are written out, and nothing else.
func TestConfigEdits(t *testing.T) {
	rotary := func(tied bool) *arch.Model {
		return &arch.Model{Rope: &arch.Rope{}, Tied: tied, Layers: []arch.Layer{{K: 32}, {K: 32}}}
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
		{"learned positions", `{}`, &arch.Model{Tied: true, Layers: []arch.Layer{{K: 32}}}, &arch.Model{Tied: true, Layers: []arch.Layer{{K: 32}}}, ``},
		{"mixed widths", `{"tie_word_embeddings": false}`, &arch.Model{Rope: &arch.Rope{}, Layers: []arch.Layer{{K: 32}, {K: 16}}}, rotary(false), ``},
	} {
		set, err := configEdits([]byte(c.config), c.m, c.view, nil)
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
