package checkpoint

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/packed"
	"modelpress/formats/safetensors"
	"modelpress/internal/testmodel"
)

func write(t *testing.T, m *testmodel.Model) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src")
	if err := errors.Join(os.Mkdir(dir, 0o755), m.Write(dir, 1<<20)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, path string, o Options) *Checkpoint {
	t.Helper()
	c, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestPlainDirectory(t *testing.T) {
	m := testmodel.Named("qwen2")
	c := open(t, write(t, m), Options{})
	if c.Quantized != nil || c.Dense != formats.Source(c.Directory) || c.Format != FormatSafetensors || c.Arch.Family != "qwen2" {
		t.Errorf("opened as %+v", c)
	}
	if d, err := c.Dequantized(); err != nil || d != c {
		t.Errorf("a plain checkpoint dequantized is another one: %v", err)
	}
	want := int64(0)
	for _, info := range m.Tensors() {
		n, _ := info.Bytes()
		want += n
	}
	if c.StoredBytes() != want {
		t.Errorf("%d bytes, want %d", c.StoredBytes(), want)
	}
}

// packedModel is a model with all projections in codes, and what they stand for.
func packedModel(t *testing.T) (dir string, m *testmodel.Model) {
	t.Helper()
	m = testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 4})
	p := packed.PackQuantized{Scheme: packed.Scheme{Bits: 4, GroupSize: 32, Symmetric: true}, Scales: formats.F32}
	var list []formats.Tensor
	for _, info := range m.Tensors() {
		v, err := m.Values(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(info.Name, "_proj.weight") {
			b := make([]byte, 4*len(v))
			if err := formats.Encode(b, v, formats.F32); err != nil {
				t.Fatal(err)
			}
			list = append(list, formats.Tensor{TensorInfo: formats.TensorInfo{Name: info.Name, DType: formats.F32, Shape: info.Shape}, Data: b})
			continue
		}
		a := &formats.Affine{Out: int(info.Shape[0]), In: int(info.Shape[1]), Bits: 4, Group: 32, Scale: formats.F32,
			Codes: make([]int8, len(v)), Scales: make([]float32, len(v)/32)}
		for i := range a.Codes {
			a.Codes[i] = int8(i*7%16 - 8)
		}
		for i := range a.Scales {
			a.Scales[i] = float32(1+i%5) / 1024
		}
		a.Dequantize(v, 0)
		m.Set(info.Name, v)
		some, err := p.Encode(strings.TrimSuffix(info.Name, ".weight"), a)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, some...)
	}
	return save(t, list, m.Config, hf.KV{Key: "quantization_config", Value: packed.Config([]packed.GroupConfig{{Setting: p}}, []string{"lm_head"})},
		hf.KV{Key: "torch_dtype", Value: "float16"}), m
}

// save writes a directory of tensors, and a configuration with some keys changed.
func save(t *testing.T, list []formats.Tensor, config []byte, edits ...hf.KV) string {
	t.Helper()
	dir := t.TempDir()
	infos := make([]formats.TensorInfo, len(list))
	for i := range list {
		infos[i] = list[i].TensorInfo
	}
	l, err := safetensors.PlanLayout(infos, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := safetensors.Create(dir, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		err = errors.Join(err, w.WriteAt(one.Name, one.Data, 0))
	}
	config, cerr := hf.EditConfig(config, edits, nil)
	if err = errors.Join(err, w.Close(), cerr, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Without its quantization a model has the names and shapes that it had before, and weights in the type that the configuration names.
func TestDequantized(t *testing.T) {
	dir, m := packedModel(t)
	c := open(t, dir, Options{})
	if c.Quantized == nil {
		t.Fatal("nothing is quantized")
	}
	stored := int64(0)
	for _, info := range m.Tensors() {
		n, err := c.TensorBytes(info.Name)
		if plain, _ := info.Bytes(); err != nil || n > plain || strings.Contains(info.Name, "_proj.weight") && n > plain/3 {
			t.Errorf("%s takes %d bytes, %d where it is plain (%v)", info.Name, n, plain, err)
		}
		stored += n
	}
	if _, err := c.TensorBytes("nothing"); err == nil || stored != c.StoredBytes() {
		t.Errorf("all tensors take %d bytes, and %d in all (%v)", stored, c.StoredBytes(), err)
	}
	d, err := c.Dequantized()
	if err != nil {
		t.Fatal(err)
	}
	if d.QuantizationConfig() != nil || strings.Contains(string(d.Config()), "quantization_config") || d.Quantized != nil {
		t.Error("it still says that it is quantized")
	}
	for _, info := range m.Tensors() {
		got, ok := d.Lookup(info.Name)
		want := formats.F32
		if strings.Contains(info.Name, "_proj.weight") {
			want = formats.F16
		}
		if !ok || !slices.Equal(got.Shape, info.Shape) || got.DType != want {
			t.Errorf("%s is %v", info.Name, got)
			continue
		}
		v, _ := m.Values(info.Name)
		have := make([]float32, len(v)-3)
		if err := formats.ReadF32(d.Store, info.Name, have, 3); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(have, v[3:]) { // codes of 4 bits times these scales are values of F16
			t.Errorf("%s: other values", info.Name)
		}
	}
	if len(d.Tensors()) != len(m.Tensors()) || len(d.DataOrder()) != len(m.Tensors()) {
		t.Errorf("%d tensors", len(d.Tensors()))
	}
	if err := d.ReadAt(m.Tensors()[0].Name, make([]byte, 1), 0); err != nil {
		t.Error(err)
	}
	if err := d.ReadAt("model.layers.0.self_attn.q_proj.weight", make([]byte, 3), 0); err == nil {
		t.Error("half an element was read")
	}
}

func TestRename(t *testing.T) {
	dir := write(t, testmodel.Named("llama-gqa"))
	rule := func(s string) Rename {
		r, err := ParseRename(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	c := open(t, dir, Options{AnyModel: true, Rename: []Rename{rule(`^model\.layers\.(\d+)\.=blocks.$1/`), rule(`^model\.=`)}})
	for _, name := range []string{"blocks.1/mlp.up_proj.weight", "embed_tokens.weight", "lm_head.weight"} {
		info, ok := c.Lookup(name)
		if !ok || info.Name != name || c.Shard(name) == "" {
			t.Errorf("%s: %v", name, info)
		}
	}
	if c.Arch != nil || c.Unknown == nil {
		t.Error("a model of unknown names was described")
	}
	plain := open(t, dir, Options{})
	a, b := make([]byte, 64), make([]byte, 64)
	if err := errors.Join(c.ReadAt("blocks.1/mlp.up_proj.weight", a, 8), plain.ReadAt("model.layers.1.mlp.up_proj.weight", b, 8)); err != nil || !slices.Equal(a, b) {
		t.Errorf("other bytes under the new name: %v", err)
	}
	for _, bad := range [][]Rename{{{regexp.MustCompile(".*proj.*"), "x"}}, {{regexp.MustCompile("^.*$"), ""}}} {
		if _, err := Open(dir, Options{Rename: bad, AnyModel: true}); err == nil {
			t.Error("names that are not different were accepted")
		}
	}
	for _, s := range []string{"", "=x", "(=x", "abc"} {
		if _, err := ParseRename(s); err == nil {
			t.Errorf("rule %q was accepted", s)
		}
	}
	quantized, _ := packedModel(t)
	if _, err := Open(quantized, Options{Rename: []Rename{rule("a=b")}}); err == nil {
		t.Error("tensors of a quantized model were renamed")
	}
}

func TestUnknownModels(t *testing.T) {
	dir := write(t, testmodel.Named("llama-gqa"))
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.ReplaceAll(string(raw), "llama", "unheard")), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("a family that is not known was opened")
	}
	if c := open(t, dir, Options{AnyModel: true}); c.Arch != nil || c.Unknown == nil || len(c.Tensors()) == 0 {
		t.Errorf("opened as %+v", c)
	}
	for _, config := range []string{`{"quant_method": "bitsandbytes"}`, `{"quant_method": 3}`, `{}`} {
		q, err := hf.EditConfig(raw, []hf.KV{{Key: "quantization_config", Value: json.RawMessage(config)}}, nil)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "config.json"), q, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{AnyModel: true}); err == nil || !strings.Contains(err.Error(), "quantization_config") {
			t.Errorf("%s: %v", config, err)
		}
	}
}
