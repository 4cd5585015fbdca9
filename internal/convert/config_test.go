package convert

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/gguf"
	"modelpress/formats/hf"
	"modelpress/formats/imatrix"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// small is a model of sizes that every format takes.
func small(change func(o *testmodel.Options)) *testmodel.Model {
	o := testmodel.Options{D: 64, H: 4, G: 2, F: 96, V: 96, Layers: 2, Seed: 31}
	if change != nil {
		change(&o)
	}
	return testmodel.New(o)
}

// keys reads the configuration of a result.
func keys(t *testing.T, dir string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// edit changes keys of the configuration of a model on disk.
func edit(t *testing.T, dir string, set []hf.KV, remove ...string) {
	t.Helper()
	path := filepath.Join(dir, configName)
	raw, err := os.ReadFile(path)
	if err == nil {
		raw, err = hf.EditConfig(raw, set, remove)
	}
	if err = errors.Join(err, os.WriteFile(path, raw, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// Loaders are told of every module that is stored plainly, the output head first, and by the names that they give to what they fuse.
func TestConfigNamesPlainModules(t *testing.T) {
	src := write(t, small(nil))
	const layer = "model.layers.0."
	some := []any{"lm_head", layer + "self_attn.q_proj", layer + "self_attn.k_proj", layer + "self_attn.v_proj"}
	up := []any{"lm_head", layer + "mlp.up_proj"}
	quant := func(format string, ignore ...string) map[string]any {
		out, _ := convert(t, src, format, func(o *Options) { o.Group, o.Ignore = 32, ignore })
		return keys(t, out)["quantization_config"].(map[string]any)
	}
	qkv := `re:model\.layers\.0\.self_attn\.[qkv]_proj`
	for _, c := range []struct {
		format, key string
		ignore      []string
		want        []any
	}{
		{Packed, "ignore", nil, []any{"lm_head"}},
		{Packed, "ignore", []string{qkv}, some},
		{AWQ, "modules_to_not_convert", nil, []any{"lm_head"}},
		{AWQ, "modules_to_not_convert", []string{qkv}, append(some[:4:4], layer+"self_attn.qkv_proj")},
		{AWQ, "modules_to_not_convert", []string{layer + "mlp.up_proj"}, up},
	} {
		got, _ := quant(c.format, c.ignore...)[c.key].([]any)
		if !sameSet(got, c.want) || got[0] != "lm_head" {
			t.Errorf("%s %v: %v, want %v", c.format, c.ignore, got, c.want)
		}
	}
	for _, format := range []string{GPTQ, GPTQv2} {
		if got := quant(format); got["dynamic"] != nil || got["lm_head"] != false {
			t.Errorf("%s: %v", format, got)
		}
		got := quant(format, qkv, layer+"mlp.down_proj")["dynamic"].(map[string]any)
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "qkv_proj"} {
			if got[`-:^model\.layers\.0\.self_attn\.`+name+"$"] == nil {
				t.Errorf("%s: %s is not excluded: %v", format, name, got)
			}
		}
		if len(got) != 5 {
			t.Errorf("%s: %v", format, got)
		}
	}
}

func sameSet(a, b []any) bool {
	m, n := map[any]int{}, map[any]int{}
	for _, x := range a {
		m[x]++
	}
	for _, x := range b {
		n[x]++
	}
	return reflect.DeepEqual(m, n)
}

// Both keys that name an element type follow --dtype.
func TestConfigNamesTheType(t *testing.T) {
	for _, c := range []struct {
		set    []hf.KV
		remove []string
		want   map[string]any
	}{
		{nil, nil, map[string]any{"torch_dtype": "float16", "dtype": nil}},
		{nil, []string{"torch_dtype"}, map[string]any{"torch_dtype": "float16", "dtype": nil}},
		{[]hf.KV{{Key: "dtype", Value: "float32"}}, []string{"torch_dtype"}, map[string]any{"torch_dtype": nil, "dtype": "float16"}},
		{[]hf.KV{{Key: "dtype", Value: "float32"}}, nil, map[string]any{"torch_dtype": "float16", "dtype": "float16"}},
	} {
		src := write(t, small(nil))
		edit(t, src, c.set, c.remove...)
		out, _ := convert(t, src, Safetensors, func(o *Options) { o.DType = "f16" })
		got := keys(t, out)
		for k, v := range c.want {
			if got[k] != v {
				t.Errorf("%v without %v: %s is %v, want %v", c.set, c.remove, k, got[k], v)
			}
		}
	}
}

// An output head of its own has the type of the embedding, or codes where that is asked for.
func TestUntie(t *testing.T) {
	src := write(t, small(func(o *testmodel.Options) { o.Tied = true }))
	head := func(path, name string) formats.TensorInfo {
		c, err := checkpoint.Open(path, checkpoint.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.Arch.Tied {
			t.Errorf("%s is still tied", path)
		}
		info, _ := c.Store.Lookup(name)
		return info
	}
	plain, r := convert(t, src, Safetensors, func(o *Options) { o.Untie, o.DType = true, "f16" })
	if got := head(plain, "lm_head.weight"); got.DType != formats.F16 {
		t.Errorf("the head is %v", got)
	}
	if n := r.Tensors[len(r.Tensors)-1]; n.How != Cast || n.Tensor != "model.embed_tokens.weight" {
		t.Errorf("noted %+v", n)
	}
	v := values(t, plain)
	same(t, "untied", map[string][]float32{"w": v["model.embed_tokens.weight"]}, map[string][]float32{"w": v["lm_head.weight"]})

	packed, _ := convert(t, src, Packed, func(o *Options) { o.Untie, o.Head, o.Group = true, true, 32 })
	if got := head(packed, "lm_head.weight_packed"); got.DType != formats.I32 {
		t.Errorf("the head is %v", got)
	}
	if ignore := keys(t, packed)["quantization_config"].(map[string]any)["ignore"].([]any); len(ignore) != 0 {
		t.Errorf("ignored: %v", ignore)
	}
	file, _ := convert(t, src, GGUF, func(o *Options) { o.Untie = true })
	f, err := gguf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Tensors(); got[len(got)-1].Name != "output.weight" {
		t.Errorf("the last tensor is %v", got[len(got)-1])
	}
	// Codes of an embedding are carried over to the head.
	blocks, _ := convert(t, src, GGUF, func(o *Options) { o.Type = "q8_0" })
	_, r = convert(t, blocks, Packed, func(o *Options) { o.Untie, o.Head = true, true })
	if n := r.Tensors[len(r.Tensors)-1]; n.How != Carried || n.Tensor != "model.embed_tokens.weight" || r.Proof.Weights != 15 {
		t.Errorf("noted %+v, proof %+v", n, r.Proof)
	}

	o := options(src, Packed, filepath.Join(t.TempDir(), "x"))
	o.Head = true
	if _, err := Convert(t.Context(), o); pipeline.KindOf(err) != pipeline.KindUsage || !strings.Contains(err.Error(), "--untie") {
		t.Errorf("codes of a head that is the embedding: %v", err)
	}
}

// A file beside config.json that says how weights are stored is no part of a result; config.json says it.
func TestSameOfQuantConfigBeside(t *testing.T) {
	src, _ := convert(t, write(t, small(nil)), GPTQ, func(o *Options) { o.Group = 32 })
	want := keys(t, src)["quantization_config"]
	edit(t, src, []hf.KV{{Key: "note", Value: `it has a "quantization_config"`}, {Key: "quantization_config", Value: nil}})
	out, _ := convert(t, src, Same, nil)
	if got := keys(t, out)["quantization_config"]; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, err := os.Stat(filepath.Join(out, "quantize_config.json")); !os.IsNotExist(err) {
		t.Errorf("quantize_config.json: %v", err)
	}
	same(t, "same", values(t, src), values(t, out))
}

// Options that have no effect, and rules that are true of nothing, are refused.
func TestRefusedOptions(t *testing.T) {
	src := write(t, small(nil))
	dir := t.TempDir()
	unknown := write(t, small(nil))
	edit(t, unknown, []hf.KV{{Key: "model_type", Value: "unheard"}})
	if err := os.WriteFile(filepath.Join(dir, "there.gguf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		model, format, out string
		change             func(o *Options)
		kind               pipeline.Kind
	}{
		"ignore with plain weights":      {src, Safetensors, "x", func(o *Options) { o.Ignore = []string{"lm_head"} }, pipeline.KindUsage},
		"ignore with GGUF":               {src, GGUF, "x", func(o *Options) { o.Ignore = []string{"lm_head"} }, pipeline.KindUsage},
		"head with GGUF":                 {src, GGUF, "x", func(o *Options) { o.Head = true }, pipeline.KindUsage},
		"head with plain weights":        {src, Safetensors, "x", func(o *Options) { o.Head = true }, pipeline.KindUsage},
		"ignore that is true of nothing": {src, Packed, "x", func(o *Options) { o.Ignore = []string{"re:.*q_prj"} }, pipeline.KindUsage},
		"importance without blocks":      {src, GGUF, "x", func(o *Options) { o.Importance = &imatrix.Matrix{} }, pipeline.KindUsage},
		"untie of an unknown model":      {unknown, Safetensors, "x", func(o *Options) { o.Untie = true }, pipeline.KindUsage},
		"names that are one":             {src, Same, "x", func(o *Options) { o.Rename = []string{".*=x"} }, pipeline.KindUsage},
		"part of a split file":           {src, GGUF, "x-00001-of-00002.gguf", nil, pipeline.KindUsage},
		"no directory":                   {src, GGUF, "none/x.gguf", nil, pipeline.KindUsage},
		"no directory either":            {src, Same, "none/x", nil, pipeline.KindUsage},
		"a file as directory":            {src, GGUF, "there.gguf/x.gguf", nil, pipeline.KindUsage},
		"inside of the model":            {src, Same, filepath.Join(src, "x"), nil, pipeline.KindUsage},
		"GGUF inside of the model":       {src, GGUF, filepath.Join(src, "x.gguf"), nil, pipeline.KindUsage},
		"the model itself":               {src, GGUF, src, nil, pipeline.KindExists},
		"a file that is there":           {src, GGUF, "there.gguf", nil, pipeline.KindExists},
	} {
		out := c.out
		if !filepath.IsAbs(out) {
			out = filepath.Join(dir, out)
		}
		o := options(c.model, c.format, out)
		if c.change != nil {
			c.change(&o)
		}
		if _, err := Convert(t.Context(), o); pipeline.KindOf(err) != c.kind {
			t.Errorf("%s: kind %d, want %d: %v", name, pipeline.KindOf(err), c.kind, err)
		}
		if list, _ := os.ReadDir(dir); len(list) != 1 {
			t.Fatalf("%s left %v", name, list)
		}
	}
	o := options(src, GGUF, filepath.Join(dir, "x.gguf"))
	for path, fine := range map[string]bool{
		filepath.Join(dir, "x.gguf"): false, filepath.Join(src, "report.json"): false, src: false, filepath.Join(dir, "r.json"): true, filepath.Join(dir, "none", "r"): false,
	} {
		if err := o.CheckBeside(path); (err == nil) != fine {
			t.Errorf("a report at %s: %v", filepath.Base(path), err)
		}
	}
}
