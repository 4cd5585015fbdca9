package arch

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// edit returns a configuration with keys replaced; the value remove{} takes one away.
func edit(t testing.TB, config []byte, keys map[string]any) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	for k, v := range keys {
		if _, gone := v.(remove); gone {
			delete(all, k)
			continue
		}
		all[k] = v
	}
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type remove struct{}

type set = map[string]any

// overlay is a source with tensors replaced, added or (nil) removed.
type overlay struct {
	formats.Source
	change map[string]*formats.TensorInfo
	data   map[string][]byte
}

func (o overlay) Lookup(name string) (formats.TensorInfo, bool) {
	if c, ok := o.change[name]; ok {
		if c == nil {
			return formats.TensorInfo{}, false
		}
		return *c, true
	}
	return o.Source.Lookup(name)
}

func (o overlay) Tensors() []formats.TensorInfo {
	out := slices.DeleteFunc(slices.Clone(o.Source.Tensors()), func(t formats.TensorInfo) bool {
		_, ok := o.change[t.Name]
		return ok
	})
	for _, c := range o.change {
		if c != nil {
			out = append(out, *c)
		}
	}
	return out
}

func (o overlay) ReadAt(name string, p []byte, off int64) error {
	if d, ok := o.data[name]; ok {
		copy(p, d[off:])
		return nil
	}
	return o.Source.ReadAt(name, p, off)
}

func TestDescribeEveryCase(t *testing.T) {
	for _, c := range testmodel.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			src := testmodel.New(c.Options)
			m, err := Describe(src.Config, src)
			if err != nil {
				t.Fatal(err)
			}
			o := src.Options
			if m.Family != o.Family || m.D != o.D || m.V != o.V || len(m.Layers) != o.Layers || m.Tied != o.Tied ||
				m.Eps != float32(o.Eps) || m.MaxPosition != o.Context || m.LayerNorm != (o.Family == "gpt2") {
				t.Errorf("described as %+v", m)
			}
			for i, l := range m.Layers {
				if _, special := o.PerLayer[i]; !special && (l.H != o.H || l.G != o.G || l.K != o.K || l.F != o.F || l.Window != o.Window) {
					t.Errorf("layer %+v of %+v", l, o)
				}
			}
			if len(m.Unused(src)) != 0 {
				t.Errorf("unused: %q", m.Unused(src))
			}
			n := int64(0)
			for _, info := range src.Tensors() {
				e, _ := info.Elements()
				n += e
			}
			if m.NumParameters() != n {
				t.Errorf("%d parameters, the checkpoint has %d", m.NumParameters(), n)
			}
		})
	}
}

func TestLlama1B(t *testing.T) {
	m, err := DescribeConfig(testmodel.New(testmodel.Llama32x1B()).Config)
	if err != nil {
		t.Fatal(err)
	}
	if m.NumParameters() != 1235814400 || m.KVBytesPerToken(2) != 32768 {
		t.Errorf("%d parameters, %d bytes a token", m.NumParameters(), m.KVBytesPerToken(2))
	}
}

func TestUnsupportedFamily(t *testing.T) {
	base := testmodel.Named("llama-mha").Config
	for _, keys := range []set{
		{"model_type": "mixtral", "architectures": []string{"MixtralForCausalLM"}},
		{"architectures": []string{"LlamaForSequenceClassification"}},
		{"model_type": ""},
	} {
		_, err := DescribeConfig(edit(t, base, keys))
		var e *formats.Error
		if !errors.Is(err, ErrUnsupported) || !errors.As(err, &e) || e.File != "config.json" {
			t.Fatalf("%v: %v", keys, err)
		}
		for _, f := range Families() {
			if !strings.Contains(err.Error(), f) {
				t.Errorf("%q does not name %s", err, f)
			}
		}
	}
	if m, err := DescribeConfig(edit(t, base, set{"architectures": remove{}})); err != nil || m.Family != "llama" {
		t.Errorf("without architectures: %v", err)
	}
}

// TestFaultyConfig: every wrong value is an error of config.json that names its key.
func TestFaultyConfig(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, c := range []struct {
		base, key string
		value     any
		cause     string
	}{
		{"llama-mha", "model_type", remove{}, "is missing"},
		{"llama-mha", "model_type", 5, "5 is not a string"},
		{"llama-mha", "architectures", "x", "not a list of strings"},
		{"llama-mha", "hidden_size", remove{}, "is missing"},
		{"llama-mha", "hidden_size", nil, "is null"},
		{"llama-mha", "hidden_size", "64", "not a whole number"},
		{"llama-mha", "hidden_size", 64.5, "not a whole number"},
		{"llama-mha", "hidden_size", raw("1e3"), "not a whole number"},
		{"llama-mha", "hidden_size", []int{64}, "not a whole number"},
		{"llama-mha", "hidden_size", int64(1) << 40, "lies outside"},
		{"llama-mha", "num_attention_heads", 0, "lies outside"},
		{"llama-mha", "num_attention_heads", -8, "lies outside"},
		{"llama-mha", "num_attention_heads", 1000000000, "lies outside"},
		{"llama-mha", "num_attention_heads", raw("99999999999999999999999"), "not a whole number"},
		{"llama-mha", "num_key_value_heads", 3, "do not divide"},
		{"llama-mha", "num_key_value_heads", 0, "lies outside"},
		{"qwen2", "num_key_value_heads", remove{}, "is missing"},
		{"mistral-swa", "num_key_value_heads", remove{}, "is missing"},
		{"llama-mha", "num_hidden_layers", 1000000000, "lies outside"},
		{"llama-mha", "num_hidden_layers", 0, "lies outside"},
		{"llama-mha", "num_hidden_layers", true, "not a whole number"},
		{"llama-mha", "intermediate_size", -1, "lies outside"},
		{"llama-mha", "vocab_size", 1 << 30, "lies outside"},
		{"llama-mha", "max_position_embeddings", 0, "lies outside"},
		{"llama-mha", "head_dim", 7, "is odd"},
		{"llama-mha", "head_dim", "8", "not a whole number"},
		{"llama-mha", "head_dim", 1 << 20, "lies outside"},
		{"llama-mha", "rms_norm_eps", remove{}, "is missing"},
		{"llama-mha", "rms_norm_eps", "tiny", "not a number"},
		{"llama-mha", "rms_norm_eps", -1, "lies outside"},
		{"llama-mha", "hidden_act", "gelu", "not supported"},
		{"llama-mha", "hidden_act", 3, "not a string"},
		{"llama-mha", "tie_word_embeddings", "yes", "not true or false"},
		{"llama-mha", "attention_bias", 1, "not true or false"},
		{"llama-mha", "partial_rotary_factor", 0.5, "not supported"},
		{"llama-mha", "rope_theta", 0, "lies outside"},
		{"llama-mha", "rope_theta", "10000", "not a number"},
		{"mistral-swa", "sliding_window", 0, "lies outside"},
		{"mistral-swa", "sliding_window", "16", "not a whole number"},
		{"qwen2", "use_sliding_window", 1, "not true or false"},
		{"qwen2", "layer_types", []string{"full_attention"}, "1 entries for 2 layers"},
		{"qwen2", "layer_types", []string{"full_attention", "linear_attention"}, "not supported"},
		{"qwen2", "layer_types", []string{"full_attention", "sliding_attention"}, "sliding_window is not set"},
		{"gpt2", "n_head", 7, "do not divide"},
		{"gpt2", "n_inner", 0, "lies outside"},
		{"gpt2", "activation_function", "relu", "not supported"},
		{"gpt2", "scale_attn_weights", false, "not supported"},
		{"gpt2", "scale_attn_by_inverse_layer_idx", true, "not supported"},
		{"gpt2", "add_cross_attention", true, "not supported"},
	} {
		_, err := DescribeConfig(edit(t, testmodel.Named(c.base).Config, set{c.key: c.value}))
		wantFault(t, err, c.key, c.cause)
	}
}

func wantFault(t *testing.T, err error, key, cause string) {
	t.Helper()
	var e *formats.Error
	if !errors.As(err, &e) || e.File != "config.json" {
		t.Errorf("%s: error %v", key, err)
		return
	}
	if s := err.Error(); !strings.Contains(s, `"`+key+`"`) || !strings.Contains(s, cause) {
		t.Errorf("%s: %q does not say %q", key, s, cause)
	}
}

func TestBrokenJSON(t *testing.T) {
	for _, raw := range []string{"", "null", "[]", "5", "{", `{"a":}`, `{"a":NaN}`, `{"a":1,"a":2}`, `{} {}`, "\xff",
		strings.Repeat(`{"a":`, 100000), `{"model_type":"llama",}`} {
		var e *formats.Error
		if _, err := DescribeConfig([]byte(raw)); !errors.As(err, &e) || e.File != "config.json" {
			t.Errorf("%.20q: %v", raw, err)
		}
	}
}

// TestAllFaultsAtOnce: one run names every wrong key.
func TestAllFaultsAtOnce(t *testing.T) {
	_, err := DescribeConfig(edit(t, testmodel.Named("llama-mha").Config,
		set{"hidden_size": -1, "vocab_size": "x", "rms_norm_eps": remove{}, "rope_scaling": 3}))
	for _, key := range []string{"hidden_size", "vocab_size", "rms_norm_eps", "rope_scaling"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

func TestHeadDimDefaults(t *testing.T) {
	for _, c := range []struct {
		base string
		keys set
		want int
	}{
		{"llama-mha", set{"head_dim": nil}, 8},
		{"llama-mha", set{"head_dim": remove{}}, 8},
		{"llama-wide-heads", set{}, 32},
		{"qwen3", set{"head_dim": remove{}}, 128}, // the default of the class
		{"qwen3", set{"head_dim": nil}, 16},
	} {
		m, err := DescribeConfig(edit(t, testmodel.Named(c.base).Config, c.keys))
		if err != nil || m.Layers[1].K != c.want || m.Rope.Dim != c.want {
			t.Errorf("%s %v: %v", c.base, c.keys, err)
		}
	}
	_, err := DescribeConfig(edit(t, testmodel.Named("llama-mha").Config, set{"head_dim": nil, "num_attention_heads": 6, "num_key_value_heads": 2}))
	wantFault(t, err, "head_dim", "is needed")
}

func TestWindows(t *testing.T) {
	sliding := []string{"sliding_attention", "full_attention"}
	for _, c := range []struct {
		base string
		keys set
		want [2]int
	}{
		{"mistral-swa", set{}, [2]int{16, 16}},
		{"mistral-swa", set{"sliding_window": nil}, [2]int{0, 0}},
		{"mistral-swa", set{"sliding_window": remove{}}, [2]int{4096, 4096}},
		{"mistral-swa", set{"layer_types": sliding}, [2]int{16, 0}},
		{"qwen2", set{"sliding_window": 32}, [2]int{0, 0}},
		{"qwen2", set{"sliding_window": 32, "use_sliding_window": true}, [2]int{0, 0}},
		{"qwen2", set{"sliding_window": 32, "use_sliding_window": true, "max_window_layers": 1}, [2]int{0, 32}},
		{"qwen2", set{"sliding_window": nil, "use_sliding_window": true, "max_window_layers": 0}, [2]int{0, 0}},
		{"qwen3", set{"sliding_window": 32, "use_sliding_window": true, "layer_types": sliding}, [2]int{32, 0}},
		{"llama-mha", set{"sliding_window": 32, "layer_types": sliding}, [2]int{0, 0}},
	} {
		m, err := DescribeConfig(edit(t, testmodel.Named(c.base).Config, c.keys))
		if err != nil || [2]int{m.Layers[0].Window, m.Layers[1].Window} != c.want {
			t.Errorf("%s %v: %v", c.base, c.keys, err)
		}
	}
}

func FuzzDescribeConfig(f *testing.F) {
	for _, c := range testmodel.Cases() {
		f.Add(testmodel.New(c.Options).Config)
	}
	f.Add(edit(f, testmodel.Named("llama-gqa").Config, set{"per_layer_config": set{"01": set{"skip": []string{"mlp"}}}}))
	f.Fuzz(func(t *testing.T, config []byte) {
		m, err := DescribeConfig(config)
		var e *formats.Error
		if err != nil {
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if len(m.Layers) < 1 || len(m.Layers) > maxLayers || m.NumParameters() <= 0 {
			t.Fatalf("%d layers, %d parameters", len(m.Layers), m.NumParameters())
		}
		for _, l := range m.Layers {
			if l.HasAttention() && (l.G < 1 || l.H%l.G != 0 || l.K < 1) {
				t.Fatalf("layer %+v", l)
			}
		}
	})
}
