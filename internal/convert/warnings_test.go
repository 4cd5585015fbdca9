package convert

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/gguf"
	"modelpress/formats/hf"
	"modelpress/internal/testmodel"
)

// What is left out, and what was not understood, is said to the user and in the report.
func TestWarnings(t *testing.T) {
	extra := append(tensors(t, small(nil), formats.F32, "", nil),
		formats.Tensor{TensorInfo: formats.TensorInfo{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", DType: formats.F32, Shape: []int64{1}}, Data: make([]byte, 4)},
		formats.Tensor{TensorInfo: formats.TensorInfo{Name: "model.layers.0.gate.extra", DType: formats.I64, Shape: []int64{1}}, Data: make([]byte, 8)})
	with := save(t, extra, small(nil).Config)
	tied := small(func(o *testmodel.Options) { o.Tied = true })
	copies := tensors(t, tied, formats.F32, "", nil)
	i := slices.IndexFunc(copies, func(x formats.Tensor) bool { return x.Name == embedding })
	head := copies[i]
	head.Name = "lm_head.weight"
	twice := save(t, append(copies, head), tied.Config)
	unknown := write(t, small(nil))
	edit(t, unknown, []hf.KV{{Key: "model_type", Value: "unheard"}})
	codes, _ := convert(t, positive(t), GPTQv2, func(o *Options) { o.Bits, o.Group = 4, 32 })
	edit(t, codes, []hf.KV{{Key: "quantization_config", Value: relabelled(t, codes)}})
	faint := small(nil)
	v, err := faint.Values("model.layers.0.mlp.up_proj.weight")
	if err != nil {
		t.Fatal(err)
	}
	for i := range v {
		v[i] *= 1e-9
	}
	faint.Set("model.layers.0.mlp.up_proj.weight", v)
	vanishing := write(t, faint)
	for name, c := range map[string]struct{ model, format, want string }{
		"vanishing":          {vanishing, AWQ, "1 tensors nearly vanished: the first, model.layers.0.mlp.up_proj.weight,"},
		"in GGUF":            {with, GGUF, "left out: model.layers.0.gate.extra"},
		"head that is there": {twice, Safetensors, "lm_head.weight is a copy of the embedding"},
		"family":             {unknown, Safetensors, "is not known"},
		"zero points":        {codes, Safetensors, "zero points are those of gptq_v2"},
	} {
		var said []string
		_, r := convert(t, c.model, c.format, func(o *Options) {
			o.Env.Warn = func(_ string, args ...any) { said = append(said, args[0].(string)) }
			if c.format == AWQ {
				o.Group = 32
			}
		})
		for _, list := range [][]string{said, r.Warnings} {
			if n := len(slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !strings.Contains(s, c.want) })); n != 1 {
				t.Errorf("%s: %q", name, list)
			}
		}
	}
}

// relabelled is how the weights of a checkpoint of GPTQ version 2 are stored, as one of version 1.
func relabelled(t *testing.T, dir string) map[string]any {
	q := keys(t, dir)["quantization_config"].(map[string]any)
	if q["checkpoint_format"] != "gptq_v2" {
		t.Fatal(q)
	}
	q["checkpoint_format"] = "gptq"
	return q
}

// The attention plan that a GGUF file carries stays with it.
func TestAttentionPlanOfGGUF(t *testing.T) {
	file, _ := convert(t, write(t, small(nil)), GGUF, nil)
	f, err := gguf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	planned := filepath.Join(t.TempDir(), "planned.gguf")
	w, err := gguf.Create(planned, append(slices.Clone(f.Metadata()), gguf.KV{Key: planKey, Value: gguf.String("a plan")}), f.Tensors(), gguf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range f.Tensors() {
		n, _ := x.Bytes()
		b := make([]byte, n)
		err = errors.Join(err, f.ReadAt(x.Name, b, 0), w.WriteAt(x.Name, b, 0))
	}
	if err = errors.Join(err, w.Commit(), f.Close()); err != nil {
		t.Fatal(err)
	}
	again, _ := convert(t, planned, GGUF, nil)
	if raw, err := os.ReadFile(again); err != nil || !strings.Contains(string(raw), planKey) || !strings.Contains(string(raw), "a plan") {
		t.Errorf("the plan is lost: %v", err)
	}
	if _, r := convert(t, planned, Safetensors, nil); len(r.Warnings) == 0 || !strings.Contains(strings.Join(r.Warnings, "\n"), "attention plan") {
		t.Errorf("warnings %q", r.Warnings)
	}
}
