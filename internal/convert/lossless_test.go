package convert

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/safetensors"
	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// save writes tensors and a configuration into a directory.
func save(t *testing.T, list []formats.Tensor, config []byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src")
	infos := make([]formats.TensorInfo, len(list))
	for i := range list {
		infos[i] = list[i].TensorInfo
	}
	l, err := safetensors.PlanLayout(infos, 0)
	if err = errors.Join(err, os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	w, err := safetensors.Create(dir, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		err = errors.Join(err, w.WriteAt(one.Name, one.Data, 0))
	}
	if err = errors.Join(err, w.Close(), os.WriteFile(filepath.Join(dir, configName), config, 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tensors are those of a model in a type; change may change the values of one, in float64.
func tensors(t *testing.T, m *testmodel.Model, dt formats.DType, name string, change func(v []float64)) []formats.Tensor {
	t.Helper()
	var list []formats.Tensor
	for _, info := range m.Tensors() {
		v, err := m.Values(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		info.DType = dt
		b := make([]byte, len(v)*dt.Size())
		if err := formats.Encode(b, v, dt); err != nil {
			t.Fatal(err)
		}
		if info.Name == name {
			wide := make([]float64, len(v))
			for i, x := range v {
				wide[i] = float64(x)
			}
			change(wide)
			for i, x := range wide {
				if dt == formats.F64 {
					bits := math.Float64bits(x)
					for k := range 8 {
						b[8*i+k] = byte(bits >> (8 * k))
					}
					continue
				}
				if err := formats.Encode(b[i*dt.Size():][:dt.Size()], []float32{float32(x)}, dt); err != nil {
					t.Fatal(err)
				}
			}
		}
		list = append(list, formats.Tensor{TensorInfo: info, Data: b})
	}
	return list
}

const embedding = "model.embed_tokens.weight"

// halves is a model whose values are all those of F16, with an embedding of several chunks.
func halves() *testmodel.Model {
	m := small(func(o *testmodel.Options) { o.V, o.DType = 6000, formats.F16 })
	return m
}

// --lossless finds the one value that changes, wherever it is and however the result is written.
func TestLosslessFindsOneValue(t *testing.T) {
	const at = 2*chunk/4 + 17 // in a chunk that is not sampled
	for name, c := range map[string]struct {
		dt     formats.DType
		value  float64
		change func(o *Options)
		fine   bool
	}{
		"F16 in GGUF":                   {formats.F32, 0.1, func(o *Options) { o.Format, o.Type = GGUF, "f16" }, false},
		"BF16 in GGUF":                  {formats.F16, 1 + 0x1p-10, func(o *Options) { o.Format, o.Type = GGUF, "bf16" }, false},
		"F32 in GGUF of F64":            {formats.F64, 0.1, func(o *Options) { o.Format = GGUF }, false},
		"F32 in GGUF of F64 that fit":   {formats.F64, 0.25, func(o *Options) { o.Format = GGUF }, true},
		"F32 in GGUF":                   {formats.F32, 0.1, func(o *Options) { o.Format, o.Type = GGUF, "f32" }, true},
		"as they are in GGUF":           {formats.F32, 0.1, func(o *Options) { o.Format = GGUF }, true},
		"F16":                           {formats.F32, 0.1, func(o *Options) { o.Format, o.DType = Safetensors, "f16" }, false},
		"a zero with its sign":          {formats.F32, math.Copysign(0, -1), func(o *Options) { o.Format, o.DType = Safetensors, "f16" }, true},
		"F32 of F64":                    {formats.F64, 1 + 0x1p-30, func(o *Options) { o.Format, o.DType = Safetensors, "f32" }, false},
		"F32 of F64 that fit":           {formats.F64, 0x1p-130, func(o *Options) { o.Format, o.DType = Safetensors, "f32" }, true},
		"no number, in the same bytes":  {formats.F32, math.NaN(), func(o *Options) { o.Format = Same }, true},
		"no number, in another type":    {formats.F32, math.NaN(), func(o *Options) { o.Format, o.DType = Safetensors, "bf16" }, false},
		"no number, in GGUF":            {formats.F32, math.NaN(), func(o *Options) { o.Format = GGUF }, false},
		"past the range of F32":         {formats.F64, 1e300, func(o *Options) { o.Format = GGUF }, false},
		"past the range of F32, as F32": {formats.F64, 1e300, func(o *Options) { o.Format, o.DType = Safetensors, "f32" }, false},
		"past the range of F32, kept":   {formats.F64, 1e300, func(o *Options) { o.Format = Safetensors }, true},
	} {
		src := save(t, tensors(t, halves(), c.dt, embedding, func(v []float64) {
			for i := range v {
				v[i] = float64(i%32) / 64
			}
			v[at] = c.value
		}), halves().Config)
		dir := t.TempDir()
		o := options(src, "", filepath.Join(dir, "out"))
		o.Lossless = true
		c.change(&o)
		_, err := Convert(t.Context(), o)
		if (err == nil) != c.fine || err != nil && !strings.Contains(err.Error(), embedding) {
			t.Errorf("%s: %v", name, err)
		}
		if list, _ := os.ReadDir(dir); err != nil && len(list) > 0 {
			t.Errorf("%s left %v", name, list)
		}
		if kind := pipeline.KindOf(err); err != nil && kind != 0 && kind != pipeline.KindGate {
			t.Errorf("%s: kind %d", name, kind)
		}
	}
}

// What was not measured everywhere says so.
func TestSampledErrors(t *testing.T) {
	src := save(t, tensors(t, halves(), formats.F32, "", nil), halves().Config)
	for _, prove := range []bool{false, true} {
		_, r := convert(t, src, GGUF, func(o *Options) { o.Type, o.Prove = "q8_0", prove })
		for _, n := range r.Tensors {
			if n.Sampled != (!prove && n.Tensor == embedding || !prove && n.Tensor == "lm_head.weight") {
				t.Errorf("proved %t: %+v", prove, n)
			}
		}
	}
}
