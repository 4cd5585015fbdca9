package arch

import (
	"reflect"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

func TestConfigComesBack(t *testing.T) {
	for _, c := range append(testmodel.Cases(), testmodel.Case{Name: "biased qwen3", Options: testmodel.Options{Family: "qwen3"}}) {
		m, err := DescribeConfig(testmodel.New(c.Options).Config)
		if err != nil {
			t.Fatal(err)
		}
		for l := range m.Layers {
			m.Layers[l].Window = 0
		}
		checkConfig(t, c.Name, m)
	}
}

func checkConfig(t *testing.T, name string, m *Model) {
	t.Helper()
	config, err := m.Config(map[string]any{"bos_token_id": 1})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got, err := DescribeConfig(config)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, config)
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("%s: differs\n%s", name, config)
	}
	if !strings.Contains(string(config), `"bos_token_id": 1`) {
		t.Errorf("%s: the further key is not there", name)
	}
}

// Settings that no case has.
func TestConfigSettings(t *testing.T) {
	config := testmodel.New(testmodel.Options{Scaling: &testmodel.Scaling{Type: "yarn", Factor: 4}}).Config
	for _, keys := range []set{
		{"rope_scaling": set{"rope_type": "yarn", "factor": 4, "attention_factor": 1.5, "truncate": false, "beta_fast": 16}},
		{"rope_scaling": set{"rope_type": "yarn", "factor": 4, "mscale": 0.7, "mscale_all_dim": 1.0}},
		{"attention_bias": true, "rope_scaling": nil},
		{"mlp_bias": true, "rms_norm_eps": 3e-6, "rope_theta": 1234.5678},
		{"per_layer_config": set{"0": set{"skip": []string{"mlp"}, "num_attention_heads": 2, "num_key_value_heads": 1}, "01": set{"head_dim": 4}}},
	} {
		m, err := DescribeConfig(edit(t, config, keys))
		if err != nil {
			t.Fatal(err)
		}
		checkConfig(t, "settings", m)
	}
	m, err := DescribeConfig(edit(t, testmodel.Named("gpt2").Config, set{"activation_function": "gelu", "tie_word_embeddings": false}))
	if err != nil {
		t.Fatal(err)
	}
	checkConfig(t, "gpt2", m)
}

func TestConfigRefuses(t *testing.T) {
	m, err := DescribeConfig(testmodel.Named("mistral-swa").Config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Config(nil); err == nil {
		t.Error("windows: no error")
	}
	if _, err := (&Model{Family: "falcon"}).Config(nil); err == nil {
		t.Error("an unknown family: no error")
	}
}
