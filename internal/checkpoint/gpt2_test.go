package checkpoint

import (
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/gptq"
	"modelpress/formats/hf"
	"modelpress/internal/testmodel"
)

// The modules of GPT-2 are stored transposed: GPTQ packs their weights as those of linear modules, and they are shown as the
// model has them.
func TestGPTQOfGPT2(t *testing.T) {
	m := testmodel.New(testmodel.Options{Family: "gpt2", Layers: 1, D: 64, H: 4, F: 96, V: 96, Seed: 5})
	f := gptq.Format{Bits: 4, Group: 32, Symmetric: true}
	var list []formats.Tensor
	want := map[string][]float32{}
	for _, info := range m.Tensors() {
		v, err := m.Values(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(info.Name, ".c_") || len(info.Shape) != 2 {
			b := make([]byte, 4*len(v))
			if err := formats.Encode(b, v, formats.F32); err != nil {
				t.Fatal(err)
			}
			list = append(list, formats.Tensor{TensorInfo: formats.TensorInfo{Name: info.Name, DType: formats.F32, Shape: info.Shape}, Data: b})
			want[info.Name] = v
			continue
		}
		in, out := int(info.Shape[0]), int(info.Shape[1])
		a := &formats.Affine{Out: out, In: in, Bits: 4, Group: 32, Scale: formats.F16, Codes: make([]int8, in*out), Scales: make([]float32, out*in/32)}
		for i := range a.Codes {
			a.Codes[i] = int8(i*5%16 - 8)
		}
		for i := range a.Scales {
			a.Scales[i] = float32(1+i%7) / 512
		}
		dense := make([]float32, in*out)
		a.Dequantize(dense, 0)
		for i := range in {
			for o := range out {
				v[i*out+o] = dense[o*in+i]
			}
		}
		want[info.Name] = v
		some, err := f.Encode(strings.TrimSuffix(info.Name, ".weight"), a)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, some...)
	}
	c := open(t, save(t, list, m.Config, hf.KV{Key: "quantization_config", Value: f.Config(nil, nil)}), Options{})
	for name, v := range want {
		got := make([]float32, len(v))
		if err := formats.ReadF32(c.Dense, name, got, 0); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, v) {
			t.Errorf("%s: other values", name)
		}
	}
}
