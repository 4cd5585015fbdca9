package convert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
)

// positive is a model with a weight of which no value is below 0, so that its zero points are the lowest code.
func positive(t *testing.T) string {
	m := small(nil)
	const name = "model.layers.1.mlp.up_proj.weight"
	v, err := m.Values(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range v {
		v[i] = float32(i%13) / 64
	}
	m.Set(name, v)
	return write(t, m)
}

// Version 1 of GPTQ has no place for zero points that are the lowest code: that is an error which says what has, whether the weight had
// codes or not, and leaves nothing.
func TestLowestZeroPoints(t *testing.T) {
	src := positive(t)
	asym := func(o *Options) { o.Bits, o.Group, o.Asymmetric = 4, 32, true }
	codes, _ := convert(t, src, GPTQv2, asym)
	for _, from := range []string{src, codes} {
		dir := t.TempDir()
		o := options(from, GPTQ, filepath.Join(dir, "x"))
		asym(&o)
		if from == codes {
			o.Bits, o.Group, o.Asymmetric = 0, 0, false
		}
		_, err := Convert(t.Context(), o)
		if pipeline.KindOf(err) != pipeline.KindUsage || !strings.Contains(err.Error(), "gptq_v2") || !strings.Contains(err.Error(), "layers.1.mlp.up_proj") {
			t.Errorf("from %s: %v", filepath.Base(from), err)
		}
		if list, _ := os.ReadDir(dir); len(list) > 0 {
			t.Errorf("left %v", list)
		}
	}
	_, r := convert(t, codes, AWQ, nil)
	if r.Proof == nil || r.Proof.Weights != 14 {
		t.Errorf("to AWQ: %+v", r.Proof)
	}
}

// Modules whose zero points happen to be those of a symmetric weight do not keep the others from formats with one grid for all, and stay on
// one grid with what they are fused with.
func TestMixedZeroPoints(t *testing.T) {
	m := small(nil)
	const name = "model.layers.0.self_attn.k_proj.weight"
	v, err := m.Values(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range v {
		v[i] = float32(i%16-8) / 64
	}
	m.Set(name, v)
	src, _ := convert(t, write(t, m), AWQ, func(o *Options) { o.Group, o.Asymmetric = 32, true })
	c, err := checkpoint.Open(src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st, _ := c.Quantized.Storage(name)
	other, _ := c.Quantized.Storage("model.layers.0.self_attn.q_proj.weight")
	c.Close()
	if !st.Symmetric || other.Symmetric {
		t.Fatalf("stored as %+v and %+v", st, other)
	}
	for _, format := range []string{GPTQv2, AWQ, Packed} {
		out, r := convert(t, src, format, func(o *Options) { o.Lossless = true })
		if r.Proof == nil || r.Proof.Weights != 14 {
			t.Errorf("%s: %+v", format, r.Proof)
		}
		if format == Packed {
			if groups := keys(t, out)["quantization_config"].(map[string]any)["config_groups"].(map[string]any); len(groups) != 1 {
				t.Errorf("%d groups", len(groups))
			}
		}
	}
	// Blocks of two widths: the narrower codes go into the wider type.
	blocks, _ := convert(t, src, GGUF, func(o *Options) { o.Lossless = true })
	if _, r := convert(t, blocks, GPTQ, func(o *Options) { o.Lossless = true }); r.Proof == nil || r.Proof.Weights != 14 {
		t.Errorf("from GGUF: %+v", r.Proof)
	}
}

// Codes are kept where a scale alone has to be rounded, in whatever format they go over to.
func TestScalesAreRounded(t *testing.T) {
	src, _ := convert(t, write(t, small(nil)), Packed, func(o *Options) { o.Bits, o.Group, o.DType = 4, 32, "f32" })
	want := values(t, src)
	for _, format := range []string{GPTQ, AWQ, GGUF} {
		out, r := convert(t, src, format, nil)
		got := values(t, out)
		rounded := 0
		for _, n := range r.Tensors {
			if n.How != Requantized {
				continue
			}
			rounded++
			var sum errorSum
			sum.add(want[n.Tensor], got[n.Tensor])
			if e := sum.num / sum.den; !(e < 1e-6) || n.RelativeError == 0 || n.Why == "" {
				t.Errorf("%s: relative error %g, noted %+v", format, e, n)
			}
		}
		if rounded != 14 || r.Proof != nil {
			t.Errorf("%s: %d weights were rounded, proof %+v", format, rounded, r.Proof)
		}
	}
}
