package pipeline

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// quantizedView shows the weights of a model as if they were stored in ways that it is told.
type quantizedView struct {
	formats.Source
	stored map[string]formats.Storage
}

func (v quantizedView) Storage(name string) (formats.Storage, bool) {
	st, ok := v.stored[name]
	return st, ok
}

func (quantizedView) Affine(string) (*formats.Affine, error) { return nil, fmt.Errorf("not read") }

// scaleSource has tensors of scales.
type scaleSource map[string]formats.Tensor

func (s scaleSource) Tensors() []formats.TensorInfo { return nil }

func (s scaleSource) Lookup(name string) (formats.TensorInfo, bool) {
	t, ok := s[name]
	return t.TensorInfo, ok
}

func (s scaleSource) ReadAt(name string, p []byte, off int64) error {
	if t, ok := s[name]; ok && t.Data != nil {
		copy(p, t.Data[off:])
		return nil
	}
	return formats.Errorf("scales", name, "cannot be read")
}

func (s scaleSource) put(name string, dt formats.DType, shape []int64, v float32) {
	s[name] = formats.Tensor{TensorInfo: formats.TensorInfo{Name: name, DType: dt, Shape: shape}, Data: binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))}
}

// TestNewCandidate: what a view says of its weights comes out in the terms of all formats.
func TestNewCandidate(t *testing.T) {
	tm := testmodel.New(testmodel.Options{Layers: 1, D: 64, V: 64, Seed: 1})
	m, err := arch.Describe(tm.Config, tm)
	if err != nil {
		t.Fatal(err)
	}
	lins := &m.Layers[0].Linears
	stem := func(r arch.Role) string { return lins[r].Module() }
	raw := scaleSource{}
	raw.put(stem(arch.Q)+".weight_scale", formats.BF16, []int64{64, 1}, 0)
	raw.put(stem(arch.K)+".weight_global_scale", formats.F32, []int64{1}, 2.5)
	raw.put(stem(arch.V)+".weight_scale", formats.F32, []int64{1}, 0.5)
	raw.put(stem(arch.Up)+".scales", formats.F16, []int64{1, 64}, 0)
	view := quantizedView{tm, map[string]formats.Storage{
		lins[arch.Q].Weight:    {Format: "pack-quantized", Code: 4, Group: -1, Ordered: true, Grid: true, Tensors: []string{stem(arch.Q) + ".weight_g_idx", stem(arch.Q) + ".weight_scale"}},
		lins[arch.K].Weight:    {Format: "nvfp4-pack-quantized", Group: 16, Symmetric: true, Tensors: []string{stem(arch.K) + ".weight_global_scale"}},
		lins[arch.V].Weight:    {Format: "float-quantized", Group: 0, Symmetric: true, Tensors: []string{stem(arch.V) + ".weight_scale"}},
		lins[arch.O].Weight:    {Format: "fp8", Group: 128 * 128, Symmetric: true},
		lins[arch.Gate].Weight: {Format: "naive-quantized", Code: 8, Group: -1, Grid: true, Symmetric: true},
		lins[arch.Up].Weight:   {Format: "gptq_v2", Code: 3, Group: 64, Grid: true, Tensors: []string{stem(arch.Up) + ".g_idx", stem(arch.Up) + ".scales"}},
		lins[arch.Down].Weight: {Format: "Q4_K", Group: 32},
	}}
	config := []byte(`{"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
		"a": {"targets": ["re:.*v_proj"], "input_activations": {"strategy": "tensor", "dynamic": false}},
		"b": {"targets": ["Linear"], "input_activations": {"strategy": "token", "dynamic": true}}}}}`)
	c, err := NewCandidate(m, config, view, raw)
	if err != nil {
		t.Fatal(err)
	}
	for role, want := range map[arch.Role]WeightFormat{
		arch.Q:    {Method: "compressed-tensors", Layout: "pack-quantized", Bits: 4, Group: -1, ActOrder: true, Indexed: true, Activations: "dynamic token", Scales: formats.BF16},
		arch.K:    {Method: "compressed-tensors", Layout: "nvfp4-pack-quantized", Bits: 4, Group: 16, Symmetric: true, Activations: "dynamic token", Global: 2.5},
		arch.V:    {Method: "compressed-tensors", Layout: "float-quantized", Bits: 8, Symmetric: true, Activations: "static tensor", Scales: formats.F32, Global: 0.5},
		arch.O:    {Method: "fp8", Layout: "fp8", Bits: 8, Group: 128, Symmetric: true, Activations: "dynamic token"},
		arch.Gate: {Method: "compressed-tensors", Layout: "int-quantized", Bits: 8, Group: -1, Symmetric: true, Activations: "dynamic token"},
		arch.Up:   {Method: "gptq", Layout: "gptq_v2", Bits: 3, Group: 64, Indexed: true, Activations: "dynamic token", Scales: formats.F16},
		arch.Down: {Method: "gguf", Layout: "Q4_K", Group: 32, Activations: "dynamic token"},
	} {
		if f, ok := c.Weights(lins[role]); !ok || f != want {
			t.Errorf("%s: %+v, want %+v", role, f, want)
		}
	}
	if got := formatOf(formats.Storage{Format: "modelopt NVFP4", Group: 16}); got.Method != methodModelOpt || got.Layout != layoutNVFP4 || got.Bits != 4 {
		t.Errorf("%+v", got)
	}
	// A scale that cannot be read is an error; a view of plain weights has no formats.
	raw[stem(arch.V)+".weight_scale"] = formats.Tensor{TensorInfo: raw[stem(arch.V)+".weight_scale"].TensorInfo}
	if _, err := NewCandidate(m, config, view, raw); err == nil {
		t.Error("a scale was not read, and no error")
	}
	if c, err := NewCandidate(m, config, tm, nil); err != nil || c.Weights != nil {
		t.Errorf("%+v %v", c, err)
	}
}

// TestQuantFacts: what is not as it should be counts as missing.
func TestQuantFacts(t *testing.T) {
	f := readConfigFacts([]byte(`{"head_dim": null, "layer_types": 3, "sliding_window": 5, "compression_config": {"quant_method": "gptq", "checkpoint_format": "gptq_v2",
		"config_groups": {"x": 3, "y": {"targets": ["re:(?=never)", "a.b"]}}, "ignore": ["re:a"]}}`))
	if !f.null("head_dim") || f.null("hidden_size") || f.layerTypes != nil || !f.slides() || !f.missing("tie_word_embeddings") || f.quant.method != "gptq" || f.quant.format != "gptq_v2" {
		t.Errorf("%+v", f)
	}
	if yes, _ := f.quant.targets("a.b"); yes {
		t.Error("an ignored module counts as targeted")
	}
	f.quant.ignore = newMatcher(nil)
	if yes, unsure := f.quant.targets("a.b"); !yes || !unsure {
		t.Errorf("%t %t: a pattern of Python's is in the way", yes, unsure)
	}
	if f := readConfigFacts([]byte(`[`)); f.slides() || f.missing("x") || f.quant.method != "" {
		t.Errorf("%+v", f)
	}
	if f := readConfigFacts([]byte(`{"quantization_config": 7}`)); f.quant.method != "" {
		t.Errorf("%+v", f)
	}
	q := readQuantFacts([]byte(`{"quant_method": "fp8", "activation_scheme": "static"}`))
	if got := q.activations("any"); got != "static tensor" {
		t.Error(got)
	}
	if !slices.Equal(readQuantFacts([]byte(online[len(`"quantization_config":`):])).online, []string{"input"}) {
		t.Error("online transforms")
	}
}
