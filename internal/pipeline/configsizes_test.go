package pipeline

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// editedConfig sets and (nil) removes keys.
func editedConfig(t *testing.T, config []byte, keys map[string]any) []byte {
	t.Helper()
	var set []hf.KV
	var gone []string
	for k, v := range keys {
		if v == nil {
			gone = append(gone, k)
			continue
		}
		set = append(set, hf.KV{Key: k, Value: v})
	}
	out, err := hf.EditConfig(config, set, gone)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func withEdits(t *testing.T, config []byte, set []hf.KV) []byte {
	t.Helper()
	out, err := hf.EditConfig(config, set, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func describeConfig(t *testing.T, config []byte) *arch.Model {
	t.Helper()
	m, err := arch.DescribeConfig(config)
	if err != nil {
		t.Fatalf("%v\n%s", err, config)
	}
	return m
}

// first keeps the first n units.
func first(n int) prune.Units {
	u := prune.Units{Keep: make([]int, n)}
	for i := range u.Keep {
		u.Keep[i] = i
	}
	return u
}

func editText(t *testing.T, set []hf.KV) string {
	t.Helper()
	out := ""
	for _, kv := range set {
		v, err := json.Marshal(kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		out += kv.Key + "=" + string(v) + " "
	}
	return out
}

// The keys that a pruned model needs, and no others.
func TestSizeEdits(t *testing.T) {
	all := func(n, d, g, f int, drop ...int) *prune.Cut {
		c := &prune.Cut{Layers: make([]prune.CutLayer, n)}
		for l := range c.Layers {
			if slices.Contains(drop, l) {
				c.Layers[l].Drop = true
				continue
			}
			c.Layers[l].Heads, c.Layers[l].FFN = first(g), first(f)
		}
		c.Hidden = first(d)
		return c
	}
	mixed := all(4, 64, 8, 192, 1)
	mixed.Layers[2].FFN, mixed.Layers[3].Heads, mixed.Layers[3].FFN = first(96), first(4), first(0)
	gone := all(3, 64, 8, 192)
	gone.Layers[0].Heads, gone.Layers[0].FFN = first(0), first(0)
	for _, c := range []struct {
		name string
		o    testmodel.Options
		keys map[string]any
		cut  *prune.Cut
		want string
	}{
		{"nothing", testmodel.Options{Layers: 3}, nil, all(3, 64, 8, 192), ``},
		{"width", testmodel.Options{Layers: 3}, nil, all(3, 48, 8, 192), `hidden_size=48 `},
		{"heads", testmodel.Options{Layers: 3, G: 4}, nil, all(3, 64, 2, 192), `num_attention_heads=4 num_key_value_heads=2 `},
		{"FFN", testmodel.Options{Layers: 3}, nil, all(3, 64, 8, 96), `intermediate_size=96 `},
		{"depth", testmodel.Options{Layers: 3}, nil, all(3, 64, 8, 192, 1), `num_hidden_layers=2 `},
		{"all", testmodel.Options{Layers: 3, G: 4}, nil, all(3, 32, 1, 8, 0, 1), `num_hidden_layers=1 hidden_size=32 num_attention_heads=2 num_key_value_heads=1 intermediate_size=8 `},
		{"no head_dim", testmodel.Options{Layers: 3}, map[string]any{"head_dim": nil, "num_key_value_heads": nil}, all(3, 48, 4, 192),
			`head_dim=8 hidden_size=48 num_attention_heads=4 num_key_value_heads=4 `},
		{"layer by layer", testmodel.Options{Layers: 4}, nil, mixed,
			`num_hidden_layers=3 num_attention_heads=8 num_key_value_heads=8 intermediate_size=192 ` +
				`per_layer_config={"01":{"intermediate_size":96},"02":{"num_attention_heads":4,"num_key_value_heads":4,"skip":["mlp"]}} `},
		{"an empty layer", testmodel.Options{Layers: 3}, nil, gone, `per_layer_config={"00":{"skip":["attention","mlp"]}} `},
		{"entries move", testmodel.Options{Layers: 3}, map[string]any{"per_layer_config": json.RawMessage(`{"0": {"intermediate_size": 192}, "02": {"intermediate_size": 96, "num_attention_heads": 8}}`)},
			&prune.Cut{Layers: []prune.CutLayer{{}, {Drop: true}, {}}},
			`num_hidden_layers=2 per_layer_config={"0":{"intermediate_size":192},"01":{"intermediate_size":96,"num_attention_heads":8}} `},
		{"lists", testmodel.Options{Family: "qwen3", Layers: 3}, map[string]any{"layer_types": []string{"full_attention", "full_attention", "sliding_attention"},
			"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2, "no_rope_layers": []int{1, 0, 1}}, all(3, 64, 8, 192, 1),
			`num_hidden_layers=2 layer_types=["full_attention","sliding_attention"] no_rope_layers=[1,1] max_window_layers=1 `},
		{"windows from a layer on", testmodel.Options{Family: "qwen2", Layers: 3}, map[string]any{"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1}, all(3, 64, 8, 192, 0),
			`num_hidden_layers=2 max_window_layers=0 `},
		{"windows from layer 28 on", testmodel.Options{Family: "qwen2", Layers: 31}, map[string]any{"use_sliding_window": true, "sliding_window": 8, "max_window_layers": nil}, all(31, 64, 8, 192, 3, 4, 30),
			`num_hidden_layers=28 max_window_layers=26 `},
		{"gpt2", testmodel.Options{Family: "gpt2", Layers: 3}, nil, all(3, 32, 4, 64, 2), `n_layer=2 n_embd=32 n_head=4 n_inner=64 `},
		{"gpt2, FFN as it was", testmodel.Options{Family: "gpt2", Layers: 3}, nil, all(3, 32, 4, 256), `n_embd=32 n_head=4 n_inner=256 `},
		{"gpt2, FFN by layer", testmodel.Options{Family: "gpt2", Layers: 3}, nil,
			&prune.Cut{Layers: []prune.CutLayer{{FFN: first(8)}, {FFN: first(0)}, {}}}, `n_inner=256 per_layer_config={"00":{"n_inner":8},"01":{"skip":["mlp"]}} `},
	} {
		config := editedConfig(t, testmodel.New(c.o).Config, c.keys)
		m := describeConfig(t, config)
		view, err := c.cut.Arch(m)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		set, err := configEdits(config, m, view, c.cut.Kept(), nil)
		if got := editText(t, set); err != nil || got != c.want {
			t.Errorf("%s: %v\n%s\n%s", c.name, err, got, c.want)
		}
		if after := describeConfig(t, withEdits(t, config, set)); !reflect.DeepEqual(after, view) {
			t.Errorf("%s: describes %+v, want %+v", c.name, after, view)
		}
	}
}

// Whatever is cut, the edited config.json describes the very model that is written, and so once more for a cut of that.
func TestSizeEditsDescribe(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	cutOf := func(m *arch.Model) *prune.Cut {
		c := &prune.Cut{Hidden: first(1 + rnd.IntN(m.D)), Layers: make([]prune.CutLayer, len(m.Layers))}
		heads := 0
		if m.PosEmbed != "" {
			a := &m.Layers[slices.IndexFunc(m.Layers, func(a arch.Layer) bool { return a.HasAttention() })]
			heads = 1 + rnd.IntN(a.G)
			c.Hidden = first(heads * a.K)
		}
		for l := range c.Layers {
			a, cl := &m.Layers[l], &c.Layers[l]
			if len(m.Layers) > 2 && l%3 == 1 && rnd.IntN(2) == 0 {
				cl.Drop = true
				continue
			}
			if a.G > 0 {
				n := rnd.IntN(a.G + 1)
				if heads > 0 && (l == 0 || n > 0) {
					n = heads
				}
				cl.Heads = first(n)
			}
			cl.FFN = first(rnd.IntN(a.F + 1))
		}
		return c
	}
	for _, c := range testmodel.Cases() {
		for range 20 {
			o := c.Options
			if o.PerLayer == nil {
				o.Layers = 2 + rnd.IntN(3)
			}
			config := testmodel.New(o).Config
			for range 2 {
				m := describeConfig(t, config)
				cut := cutOf(m)
				view, err := cut.Arch(m)
				if err != nil {
					break // a second cut may leave no head
				}
				set, err := configEdits(config, m, view, cut.Kept(), nil)
				if err != nil {
					t.Fatalf("%s: %v", c.Name, err)
				}
				config = withEdits(t, config, set)
				if after := describeConfig(t, config); !reflect.DeepEqual(after, view) {
					t.Fatalf("%s: describes %+v\nwant %+v\n%s", c.Name, after, view, config)
				}
			}
		}
	}
}

func TestSizeEditsRefuses(t *testing.T) {
	m := describeConfig(t, testmodel.New(testmodel.Options{Family: "gpt2", Layers: 3}).Config)
	two := m.Select([]int{0, 1})
	uneven := m.Clone()
	uneven.Layers[1].H = 4
	for want, c := range map[string]struct {
		config string
		view   *arch.Model
		kept   []int
	}{
		"2 layers are written, 3":      {`{}`, two, nil},
		"different numbers of heads":   {`{}`, uneven, nil},
		`key "layer_types"`:            {`{"layer_types": 5}`, two, []int{0, 1}},
		`key "max_window_layers"`:      {`{"max_window_layers": "x"}`, two, []int{0, 1}},
		`key "per_layer_config": json`: {`{"per_layer_config": []}`, two, []int{0, 1}},
	} {
		if _, err := configEdits([]byte(c.config), m, c.view, c.kept, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Heads of several widths: the width that a missing head_dim stood for is written once it would be another.
func TestHeadDimOfSomeLayers(t *testing.T) {
	config := editedConfig(t, testmodel.New(testmodel.Options{Layers: 3}).Config, map[string]any{"head_dim": nil, "per_layer_config": json.RawMessage(`{"0": {"head_dim": 16}}`)})
	m := describeConfig(t, config)
	for want, cut := range map[string]*prune.Cut{
		``:                           {Layers: []prune.CutLayer{{}, {FFN: first(192)}, {}}},
		`head_dim=8 hidden_size=48 `: {Hidden: first(48), Layers: make([]prune.CutLayer, 3)},
		`head_dim=8 num_attention_heads=4 num_key_value_heads=4 per_layer_config={"0":{"head_dim":16}} `: {Layers: []prune.CutLayer{{Heads: first(4)}, {Heads: first(4)}, {Heads: first(4)}}},
	} {
		view, err := cut.Arch(m)
		if err != nil {
			t.Fatal(err)
		}
		set, err := configEdits(config, m, view, cut.Kept(), nil)
		got := editText(t, set)
		if err != nil || got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
		if after := describeConfig(t, withEdits(t, config, set)); !reflect.DeepEqual(after, view) {
			t.Errorf("describes %+v, want %+v", after, view)
		}
	}
}
