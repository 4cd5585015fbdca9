package kvmerge

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"modelpress/internal/arch"
)

// The view with the number of KV heads in config.json is a checkpoint like any other.
func TestViewIsDescribed(t *testing.T) {
	for _, c := range []struct {
		name      string
		t, repeat int
	}{{"llama-mha", 2, 1}, {"llama-bias", 4, 2}, {"llama-wide-heads", 2, 1}, {"qwen2", 2, 2}, {"qwen3", 2, 1}, {"mistral-swa", 2, 1}, {"gpt2", 4, 4}} {
		src := viewCase(c.name)
		m := viewModel(t, src)
		plan := randomPlan(m, c.t, c.repeat, 10)
		v, n, err := View(src, m, plan.layers, plan.load, nil)
		if err != nil {
			t.Fatal(err)
		}
		config := src.Config
		if m.PosEmbed == "" {
			config = withKVHeads(t, config, plan.layers[0].Written(m.Layers[0].G))
		}
		got, err := arch.Describe(config, v)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !slices.Equal(got.Layers, n.Layers) {
			t.Errorf("%s: described as\n%+v, not\n%+v", c.name, got.Layers, n.Layers)
		}
		if _, err := arch.Describe(src.Config, v); err == nil && n.Layers[0].G != m.Layers[0].G {
			t.Errorf("%s: the old configuration still fits", c.name)
		}
	}
}

func withKVHeads(t *testing.T, config []byte, g int) []byte {
	t.Helper()
	var c map[string]any
	d := json.NewDecoder(bytes.NewReader(config))
	d.UseNumber()
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	c["num_key_value_heads"] = g
	out, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
