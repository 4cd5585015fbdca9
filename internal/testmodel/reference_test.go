package testmodel

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// newReference returns the reference of a case and 40 ids, more than the window of the case that has one.
func newReference(t *testing.T, config []byte, src formats.Source) (*Reference, []int32) {
	t.Helper()
	r, err := NewReference(config, src)
	if err != nil {
		t.Fatal(err)
	}
	return r, Windows(1, 40, r.config.V, 3)[0]
}

func referenceLogits(t *testing.T, r *Reference, ids []int32) []float64 {
	t.Helper()
	v, err := r.Logits(ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range v {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			t.Fatalf("logit %d is %g", i, x)
		}
	}
	return v
}

// farthest returns the largest distance between two slices.
func farthest(t *testing.T, a, b []float64) float64 {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d and %d values", len(a), len(b))
	}
	worst := 0.0
	for i := range a {
		worst = max(worst, math.Abs(a[i]-b[i]))
	}
	return worst
}

// repeatHeads gives [T, n*K] as [T, n*times*K], each head times over.
func repeatHeads(x []float64, width, times int) []float64 {
	var y []float64
	for head := range slices.Chunk(x, width) {
		for range times {
			y = append(y, head...)
		}
	}
	return y
}

// TestReferenceHooks: hooks that return their inputs change no bit, hooks that repeat KV heads change nothing, and hooks that
// change something change the logits.
func TestReferenceHooks(t *testing.T) {
	for _, c := range Cases() {
		if c.Name == "llama-pruned" {
			continue // what hooks see is counted from uniform layers
		}
		t.Run(c.Name, func(t *testing.T) {
			m := New(c.Options)
			r, ids := newReference(t, m.Config, m)
			want := referenceLogits(t, r, ids)
			o := m.Options
			seen := map[string]int{}
			r.Heads = func(l int, q, k, v []float64, n int) ([]float64, []float64, []float64) {
				seen["heads"] += l + 1
				if n != len(ids) || len(q) != n*o.H*o.K || len(k) != n*o.G*o.K || len(v) != n*o.G*o.K {
					t.Errorf("layer %d: %d, %d and %d values", l, len(q), len(k), len(v))
				}
				return q, k, v
			}
			r.Out = func(l int, x []float64, n int) []float64 { seen["out"] += l + 1; return x }
			if !slices.Equal(referenceLogits(t, r, ids), want) || seen["heads"] != 3 || seen["out"] != 3 {
				t.Errorf("hooks that return their inputs change the logits, %v", seen)
			}
			r.Out = nil
			for times := 2; o.G*times <= o.H; times *= 2 {
				r.Heads = func(_ int, q, k, v []float64, _ int) ([]float64, []float64, []float64) {
					return q, repeatHeads(k, o.K, times), repeatHeads(v, o.K, times)
				}
				if d := farthest(t, referenceLogits(t, r, ids), want); d > 1e-12 {
					t.Errorf("each KV head %d times: logits differ by %g", times, d)
				}
			}
			for name, set := range map[string]func(*Reference){
				"q": func(r *Reference) { r.Heads = scaled(1.01, 1, 1) }, "k": func(r *Reference) { r.Heads = scaled(1, 1.01, 1) },
				"v": func(r *Reference) { r.Heads = scaled(1, 1, 1.01) },
				"o": func(r *Reference) {
					r.Out = func(_ int, x []float64, _ int) []float64 { return times(x, 1.01) }
				},
			} {
				r.Heads, r.Out = nil, nil
				set(r)
				if d := farthest(t, referenceLogits(t, r, ids), want); d < 1e-6 {
					t.Errorf("%s scaled: logits differ by %g only", name, d)
				}
			}
		})
	}
}

func times(x []float64, by float64) []float64 {
	y := slices.Clone(x)
	for i := range y {
		y[i] *= by
	}
	return y
}

func scaled(a, b, c float64) func(int, []float64, []float64, []float64, int) ([]float64, []float64, []float64) {
	return func(_ int, q, k, v []float64, _ int) ([]float64, []float64, []float64) {
		return times(q, a), times(k, b), times(v, c)
	}
}

// A hook may return what it keeps: nothing of it is changed by the pass.
func TestReferenceHookKeeps(t *testing.T) {
	m := Named("llama-gqa")
	r, ids := newReference(t, m.Config, m)
	var kept, copies [][]float64
	keep := func(x ...[]float64) {
		for _, v := range x {
			kept, copies = append(kept, v), append(copies, slices.Clone(v))
		}
	}
	r.Heads = func(_ int, q, k, v []float64, _ int) ([]float64, []float64, []float64) {
		keep(q, k, v)
		return q, k, v
	}
	r.Out = func(_ int, x []float64, _ int) []float64 {
		keep(x)
		return x
	}
	referenceLogits(t, r, ids)
	for i := range kept {
		if !slices.Equal(kept[i], copies[i]) {
			t.Errorf("slice %d that a hook returned was changed", i)
		}
	}
	if len(kept) != 8 {
		t.Errorf("%d slices", len(kept))
	}
}

// Where nothing is rotated between them, scaling q by what k is divided by leaves scores alone; the hooks see v before o.
func TestReferenceGPT2Map(t *testing.T) {
	m := Named("gpt2")
	r, ids := newReference(t, m.Config, m)
	want := referenceLogits(t, r, ids)
	r.Heads = scaled(4, 0.25, 2)
	r.Out = func(_ int, x []float64, _ int) []float64 { return times(x, 0.5) }
	if d := farthest(t, referenceLogits(t, r, ids), want); d > 1e-12 {
		t.Errorf("logits differ by %g", d)
	}
}

func TestReferenceHookErrors(t *testing.T) {
	m := Named("llama-gqa")
	n := 40 * m.Options.K
	for _, c := range []struct{ q, k, v int }{{n, 2 * n, 2 * n}, {8 * n, 2 * n, n}, {8 * n, n + 1, n + 1}, {8 * n, 0, 0},
		{8 * n, 3 * n, 3 * n}, {8 * n, 16 * n, 16 * n}} {
		r, ids := newReference(t, m.Config, m)
		r.Heads = func(int, []float64, []float64, []float64, int) (q, k, v []float64) {
			return make([]float64, c.q), make([]float64, c.k), make([]float64, c.v)
		}
		if _, err := r.Logits(ids); err == nil || !strings.Contains(err.Error(), "layer 0: hook Heads") {
			t.Errorf("%v: error %v", c, err)
		}
	}
	r, ids := newReference(t, m.Config, m)
	r.Out = func(_ int, x []float64, _ int) []float64 { return x[1:] }
	if _, err := r.Logits(ids); err == nil || !strings.Contains(err.Error(), "hook Out") {
		t.Errorf("error %v", err)
	}
	for _, ids := range [][]int32{nil, {-1}, {256}} {
		if _, err := r.Logits(ids); err == nil {
			t.Errorf("ids %v are accepted", ids)
		}
	}
	gpt2, _ := newReference(t, Named("gpt2").Config, Named("gpt2"))
	if _, err := gpt2.Logits(make([]int32, 257)); err == nil {
		t.Error("257 ids where there are 256 positions")
	}
}

// wide is a model stored as F64, each value moved by a part of it.
type wide struct {
	*Model
	by float64
}

func (w wide) Lookup(name string) (formats.TensorInfo, bool) {
	info, ok := w.Model.Lookup(name)
	info.DType = formats.F64
	return info, ok
}

func (w wide) ReadAt(name string, p []byte, off int64) error {
	half := make([]byte, len(p)/2)
	if err := w.Model.ReadAt(name, half, off/2); err != nil {
		return err
	}
	for i := 0; i < len(half); i += 4 {
		v := float64(math.Float32frombits(binary.LittleEndian.Uint32(half[i:]))) * (1 + w.by)
		binary.LittleEndian.PutUint64(p[2*i:], math.Float64bits(v))
	}
	return nil
}

// TestReferenceTypes: every stored type gives its values, F64 ones with all their bits.
func TestReferenceTypes(t *testing.T) {
	m := Named("qwen3")
	r, ids := newReference(t, m.Config, m)
	want := referenceLogits(t, r, ids)
	r, _ = newReference(t, m.Config, wide{m, 0})
	if !slices.Equal(referenceLogits(t, r, ids), want) {
		t.Error("F32 values stored as F64 give other logits")
	}
	r, _ = newReference(t, m.Config, wide{m, 1e-12})
	if d := farthest(t, referenceLogits(t, r, ids), want); d == 0 || d > 1e-9 {
		t.Errorf("values moved by 1e-12: logits differ by %g", d)
	}
	for _, dt := range []formats.DType{formats.BF16, formats.F16} {
		opt := m.Options
		opt.DType = dt
		short := New(opt)
		full := New(m.Options)
		for _, info := range short.Tensors() {
			v, err := short.Values(info.Name)
			if err != nil {
				t.Fatal(err)
			}
			full.Set(info.Name, v)
		}
		a, _ := newReference(t, short.Config, short)
		b, _ := newReference(t, full.Config, full)
		if !slices.Equal(referenceLogits(t, a, ids), referenceLogits(t, b, ids)) {
			t.Errorf("%s: logits are not those of its values in F32", dt)
		}
	}
}

// TestReferencePerLayer: a layer with its own number of KV heads, each stored twice, gives the bits of the layer that has
// them once.
func TestReferencePerLayer(t *testing.T) {
	base := Options{G: 2, Bias: true, Seed: 21}
	once := New(base)
	base.PerLayer = map[int]Sizes{1: {G: 4}}
	twice := New(base)
	for _, part := range []string{"k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"} {
		name := "model.layers.1.self_attn." + part
		v, err := once.Values(name)
		if err != nil {
			t.Fatal(err)
		}
		head := len(v) / 2
		twice.Set(name, slices.Concat(v[:head], v[:head], v[head:], v[head:]))
	}
	a, ids := newReference(t, once.Config, once)
	b, _ := newReference(t, twice.Config, twice)
	if b.layers[0].g != 2 || b.layers[1].g != 4 {
		t.Errorf("%d and %d KV heads", b.layers[0].g, b.layers[1].g)
	}
	if !slices.Equal(referenceLogits(t, a, ids), referenceLogits(t, b, ids)) {
		t.Error("logits differ")
	}
}

// TestReferenceCausal: a token changes no logits before it, and under a window of 16 in two layers none 31 after it or later.
func TestReferenceCausal(t *testing.T) {
	m := Named("mistral-swa")
	r, ids := newReference(t, m.Config, m)
	want := referenceLogits(t, r, ids)
	const at = 5
	ids[at] = (ids[at] + 1) % 256
	got, v := referenceLogits(t, r, ids), m.Options.V
	for i := range ids {
		same := slices.Equal(got[i*v:(i+1)*v], want[i*v:(i+1)*v])
		if same != (i < at || i > at+2*15) {
			t.Errorf("position %d: same logits is %t", i, same)
		}
	}
}

// TestReferenceRefuses: what it does not compute is an error that names it.
func TestReferenceRefuses(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"llama-gqa", `"LlamaForCausalLM"`, `"OPTForCausalLM"`, "OPTForCausalLM"},
		{"llama-gqa", `"silu"`, `"gelu"`, "hidden_act"},
		{"llama-gqa", `"num_key_value_heads": 2`, `"num_key_value_heads": 3`, "3 KV heads"},
		{"llama-gqa", `"num_key_value_heads": 2`, `"num_key_value_heads": 4`, "k_proj"},
		{"llama-gqa", `"hidden_size": 64`, `"hidden_size": 1e300`, "config.json"},
		{"llama-gqa", `"hidden_size": 64`, `"hidden_size": 9999999`, "width"},
		{"llama-gqa", `"vocab_size": 256`, `"vocab_size": 257`, "embed_tokens"},
		{"llama-gqa", `"num_hidden_layers": 2`, `"num_hidden_layers": 3`, "layers.2"},
		{"llama-gqa", `"head_dim": 8`, `"head_dim": 7`, "odd"},
		{"llama-gqa", `"use_cache": true`, `"per_layer_config": {"2": {}}`, "no layer"},
		{"llama-gqa", `"use_cache": true`, `"per_layer_config": {"0": {"head_dim": 4}}`, "head_dim"},
		{"llama-gqa", `"use_cache": true`, `"per_layer_config": {"0": {"num_attention_heads": 7}}`, "7 query heads"},
		{"llama-gqa", `"use_cache": true`, `"per_layer_config": {"0": {"num_key_value_heads": 0}}`, "0 KV heads"},
		{"llama-gqa", `"use_cache": true`, `"per_layer_config": {"0": {"intermediate_size": -1}}`, "FFN width -1"},
		{"llama-gqa", `"use_cache": true`, `"per_layer_config": {"0": {"intermediate_size": 5000000}}`, "5000000"},
		{"llama-gqa", `"use_cache": true`, `"per_layer_config": {"0": {"intermediate_size": 96}}`, "gate_proj"},
		{"llama-gqa", `"use_cache": true`, `"per_layer_config": {"0": {"skip": ["norm"]}}`, "norm"},
		{"gpt2", `"use_cache": true`, `"per_layer_config": {"0": {"intermediate_size": 96}}`, "intermediate_size"},
		{"gpt2", `"use_cache": true`, `"per_layer_config": {"0": {"n_inner": 96}}`, "c_fc"},
		{"llama-rope-yarn", `"yarn"`, `"longrope"`, "longrope"},
		{"llama-rope-yarn", `"factor": 4`, `"factor": 0.5`, "factor"},
		{"mistral-swa", `"sliding_window": 16`, `"sliding_window": 0`, "sliding_window"},
		{"qwen2", `"use_cache": true`, `"layer_types": ["sliding_attention", "full_attention"]`, "layer_types"},
		{"gpt2", `"scale_attn_weights": true`, `"scale_attn_weights": false`, "GPT-2"},
		{"gpt2", `"gelu_new"`, `"relu"`, "relu"},
	} {
		m := Named(c.name)
		config := bytes.Replace(m.Config, []byte(c.from), []byte(c.to), 1)
		if bytes.Equal(config, m.Config) {
			t.Fatalf("%s: nothing to replace by %s", c.name, c.to)
		}
		if _, err := NewReference(config, m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: error %v", c.name, c.to, err)
		}
	}
	m := Named("gpt2")
	for _, info := range m.Tensors() {
		// Without its embedding, the model is taken for one of the first release.
		want := strings.TrimPrefix(info.Name, "transformer.")
		if _, err := NewReference(m.Config, m.Without(info.Name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: error %v", info.Name, err)
		}
	}
}

// TestReferenceChannels: a norm over some channels is the norm of a row that has no others, and one over all is the plain one.
func TestReferenceChannels(t *testing.T) {
	row := []float64{3, -1, 0.5, 2, -4, 1, 7, -2}
	gain, bias := []float64{1, 2, 3, 4, 5, 6, 7, 8}, []float64{8, 7, 6, 5, 4, 3, 2, 1}
	keep := []bool{true, false, true, true, false, false, true, true}
	for _, b := range [][]float64{nil, bias} {
		var short, shortGain, shortBias []float64
		for c, k := range keep {
			if !k {
				continue
			}
			short, shortGain = append(short, row[c]), append(shortGain, gain[c])
			if b != nil {
				shortBias = append(shortBias, b[c])
			}
		}
		want := make([]float64, 0, len(row))
		narrow := referenceNorm{shortGain, shortBias}.apply(short, 1e-5)
		for _, k := range keep {
			v := 0.0
			if k {
				v, narrow = narrow[0], narrow[1:]
			}
			want = append(want, v)
		}
		if got := (referenceNorm{gain, b}).over(row, 1e-5, keep); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	m := Named("gpt2")
	r, ids := newReference(t, m.Config, m)
	want := referenceLogits(t, r, ids)
	r.Channels = slices.Repeat([]bool{true}, m.Options.D)
	if !slices.Equal(referenceLogits(t, r, ids), want) {
		t.Error("all channels give other logits")
	}
	r.Channels[5] = false
	if farthest(t, referenceLogits(t, r, ids), want) < 1e-3 {
		t.Error("a channel less changes nothing")
	}
	r.Channels = r.Channels[1:]
	if _, err := r.Logits(ids); err == nil || !strings.Contains(err.Error(), "63 channels") {
		t.Errorf("error %v", err)
	}
}
