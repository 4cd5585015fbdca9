package arch

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

func tensor(name string, dt formats.DType, shape ...int64) *formats.TensorInfo {
	return &formats.TensorInfo{Name: name, DType: dt, Shape: shape}
}

func TestFaultyTensors(t *testing.T) {
	const q = "model.layers.1.self_attn.q_proj"
	for _, c := range []struct {
		base   string
		change map[string]*formats.TensorInfo
		tensor string
		cause  string
	}{
		{"llama-gqa", map[string]*formats.TensorInfo{q + ".weight": nil}, q + ".weight", "is missing"},
		{"llama-gqa", map[string]*formats.TensorInfo{q + ".weight": nil, q + ".qweight": tensor(q+".qweight", formats.I32, 8, 64)}, q + ".weight", "quantized"},
		{"llama-gqa", map[string]*formats.TensorInfo{q + ".weight": nil, q + ".weight_packed": tensor(q+".weight_packed", formats.I32, 64, 8)}, q + ".weight", "quantized"},
		{"llama-gqa", map[string]*formats.TensorInfo{q + ".weight": tensor(q+".weight", formats.I8, 64, 64)}, q + ".weight", "dtype I8"},
		{"llama-gqa", map[string]*formats.TensorInfo{q + ".weight": tensor(q+".weight", formats.F32, 60, 64)}, q + ".weight", "shape [60 64]"},
		{"llama-gqa", map[string]*formats.TensorInfo{q + ".weight": tensor(q+".weight", formats.F32, 4096)}, q + ".weight", "shape [4096]"},
		{"llama-gqa", map[string]*formats.TensorInfo{q + ".bias": tensor(q+".bias", formats.F32, 64)}, q + ".bias", "has no bias"},
		{"llama-bias", map[string]*formats.TensorInfo{q + ".bias": nil}, q + ".bias", "is missing"},
		{"qwen2", map[string]*formats.TensorInfo{q + ".bias": nil}, q + ".bias", "is missing"},
		{"qwen3", map[string]*formats.TensorInfo{"model.layers.0.self_attn.k_norm.weight": nil}, "model.layers.0.self_attn.k_norm.weight", "is missing"},
		{"llama-gqa", map[string]*formats.TensorInfo{"lm_head.weight": nil}, "lm_head.weight", "is missing"},
		{"gpt2", map[string]*formats.TensorInfo{"transformer.wpe.weight": tensor("transformer.wpe.weight", formats.F32, 100, 64)}, "transformer.wpe.weight", "shape [100 64]"},
		{"gpt2", map[string]*formats.TensorInfo{"transformer.h.0.attn.c_attn.weight": tensor("transformer.h.0.attn.c_attn.weight", formats.F32, 192, 64)}, "transformer.h.0.attn.c_attn.weight", "shape [192 64]"},
	} {
		src := testmodel.Named(c.base)
		_, err := Describe(src.Config, overlay{Source: src, change: c.change})
		var e *formats.Error
		if !errors.As(err, &e) || e.Tensor != c.tensor || !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%s: %v", c.tensor, err)
		}
	}
}

// TestFaultsSorted: all faults of the tensors come at once, by name.
func TestFaultsSorted(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	gone := []string{"model.layers.1.mlp.up_proj.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight"}
	_, err := Describe(src.Config, src.Without(gone...))
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error %v", err)
	}
	var names []string
	for _, e := range joined.Unwrap() {
		names = append(names, e.(*formats.Error).Tensor)
	}
	if slices.Sort(gone); !slices.Equal(names, gone) {
		t.Errorf("faults of %q", names)
	}
}

func TestTiedHead(t *testing.T) {
	src := testmodel.Named("llama-mqa-tied")
	const head, embed = "lm_head.weight", "model.embed_tokens.weight"
	info, _ := src.Lookup(embed)
	size, _ := info.Bytes()
	copied := make([]byte, size)
	if err := src.ReadAt(embed, copied, 0); err != nil {
		t.Fatal(err)
	}
	info.Name = head
	view := overlay{Source: src, change: map[string]*formats.TensorInfo{head: &info}, data: map[string][]byte{head: copied}}
	m, err := Describe(src.Config, view)
	if err != nil || m.LMHead != embed || !slices.Equal(m.Unused(view), []string{head}) {
		t.Fatalf("stored copy of a tied head: %v", err)
	}
	copied[len(copied)-1] ^= 1
	if _, err := Describe(src.Config, view); err == nil || !strings.Contains(err.Error(), "ties them") {
		t.Errorf("different head: %v", err)
	}
	info.Shape = []int64{64, 256}
	if _, err := Describe(src.Config, view); err == nil || !strings.Contains(err.Error(), "ties them") {
		t.Errorf("head of another shape: %v", err)
	}
}

// bare is a GPT-2 checkpoint as first released: no prefix, with causal masks.
type bare struct{ *testmodel.Model }

func (b bare) Lookup(name string) (formats.TensorInfo, bool) {
	if strings.HasPrefix(name, "transformer.") {
		return formats.TensorInfo{}, false
	}
	t, ok := b.Model.Lookup("transformer." + name)
	t.Name = name
	return t, ok
}

func (b bare) Tensors() []formats.TensorInfo {
	out := []formats.TensorInfo{*tensor("h.0.attn.bias", formats.U8, 1, 1, 256, 256)}
	for _, t := range b.Model.Tensors() {
		t.Name = strings.TrimPrefix(t.Name, "transformer.")
		out = append(out, t)
	}
	return out
}

func TestGPT2Names(t *testing.T) {
	src := testmodel.Named("gpt2")
	m, err := Describe(src.Config, bare{src})
	if err != nil || m.Embed != "wte.weight" || m.Layers[1].Linears[K].Weight != "h.1.attn.c_attn.weight" {
		t.Fatalf("without prefix: %v", err)
	}
	if u := m.Unused(bare{src}); !slices.Equal(u, []string{"h.0.attn.bias"}) || !IsBuffer(u[0]) {
		t.Errorf("unused %q", u)
	}
	k := m.Layers[0].Linears[K]
	if !k.Transposed || k.Row != 64 || k.StoredOut != 192 || k.Out != 64 || k.Module() != "h.0.attn.c_attn" {
		t.Errorf("k is %+v", k)
	}
	for key, act := range map[string]Activation{"gelu_new": GELUTanh, "gelu": GELUErf, "gelu_pytorch_tanh": GELUTanh} {
		if m, err := DescribeConfig(edit(t, src.Config, set{"activation_function": key})); err != nil || m.Act != act {
			t.Errorf("%s: %v", key, err)
		}
	}
}
