package hf

import (
	"strings"
	"testing"
)

// Programs of GPTQ and AWQ wrote how weights are quantized into a file of their own.
func TestQuantConfigBeside(t *testing.T) {
	packed := tree{"config.json": `{}`, "model.safetensors": weights("m.qweight")}
	for _, c := range []struct {
		files tree
		want  string
	}{
		{packed.with(tree{"quantize_config.json": `{"bits": 4}`}), `{"bits": 4,"quant_method":"gptq"}`},
		{packed.with(tree{"quant_config.json": `{"w_bit": 4}`}), `{"w_bit": 4,"quant_method":"awq"}`},
		{packed.with(tree{"quantize_config.json": `{"quant_method": "awq"}`}), `{"quant_method": "awq"}`},
		{packed.with(tree{"config.json": `{"quantization_config":{"a":1}}`, "quantize_config.json": `{"bits": 4}`}), `{"a":1}`},
		{single.with(tree{"quantize_config.json": `{"bits": 4}`}), ``}, // left over: nothing is packed
	} {
		got := string(openTree(t, c.files).QuantizationConfig())
		if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	for want, files := range map[string]tree{
		"neither quantization_config nor quantize_config.json": packed,
		"quantize_config.json":                                 packed.with(tree{"quantize_config.json": `{"bits": 4, "bits": 8}`}),
	} {
		if _, err := Open(files.write(t, t.TempDir())); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	c := openTree(t, packed.with(tree{"quantize_config.json": `{"bits": 4}`}))
	if len(c.Files()) != 0 {
		t.Errorf("%v would go along to a result whose weights are stored otherwise", c.Files())
	}
}
