package convert

import (
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/gptq"
	"modelpress/formats/hf"
	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// Codes of GPT-2 in GPTQ, whose modules the model stores transposed, go into blocks as they are; plain weights are transposed again.
func TestGPTQOfGPT2(t *testing.T) {
	m := testmodel.New(testmodel.Options{Family: "gpt2", Layers: 1, D: 64, H: 4, F: 96, V: 96, Seed: 5})
	f := gptq.Format{Bits: 4, Group: 32, Symmetric: true}
	var list []formats.Tensor
	for _, x := range tensors(t, m, formats.F32, "", nil) {
		if !strings.Contains(x.Name, ".c_") || len(x.Shape) != 2 {
			list = append(list, x)
			continue
		}
		in, out := int(x.Shape[0]), int(x.Shape[1])
		a := &formats.Affine{Out: out, In: in, Bits: 4, Group: 32, Scale: formats.F16, Codes: make([]int8, in*out), Scales: make([]float32, out*in/32)}
		for i := range a.Codes {
			a.Codes[i] = int8(i*5%16 - 8)
		}
		for i := range a.Scales {
			a.Scales[i] = float32(1+i%7) / 512
		}
		some, err := f.Encode(strings.TrimSuffix(x.Name, ".weight"), a)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, some...)
	}
	config, err := hf.EditConfig(m.Config, []hf.KV{{Key: "quantization_config", Value: f.Config(nil, nil)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	src := save(t, list, config)
	want := values(t, src)
	blocks, r := convert(t, src, GGUF, func(o *Options) { o.Lossless = true })
	if r.Proof == nil || r.Proof.Weights != 4 {
		t.Errorf("proof %+v", r.Proof)
	}
	same(t, "blocks", want, values(t, blocks))
	plain, _ := convert(t, src, Safetensors, func(o *Options) { o.DType, o.Lossless = "f32", true })
	same(t, "plain", want, values(t, plain))
	back, _ := convert(t, blocks, Safetensors, func(o *Options) { o.DType = "f32" })
	same(t, "blocks, plain", want, values(t, back))
	wide, _ := convert(t, src, GGUF, func(o *Options) { o.Type = "q8_0" })
	same(t, "wider blocks", map[string][]float32{"w": want["transformer.h.0.attn.c_attn.weight"]}, map[string][]float32{"w": values(t, wide)["transformer.h.0.attn.c_attn.weight"]})
	data := windowsFile(t)
	if a, b := evaluate(t, src, data), evaluate(t, plain, data); a != b {
		t.Errorf("negative log-likelihood %v, dequantized %v", a, b)
	}
	if v, err := pipeline.Inspect(src, false, nil); err != nil || !v.Quantized {
		t.Errorf("inspected %+v, %v", v, err)
	}
}
