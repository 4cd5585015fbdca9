package pipeline

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// The same recipe writes the same codes in every format: what is read back from GPTQ and AWQ is what the calibration found, value by
// value, and so is the report.
func TestFormatsHoldTheSameCodes(t *testing.T) {
	model := func() *testmodel.Model {
		return testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, DType: formats.F16, Seed: 31})
	}
	for _, c := range []struct {
		method    string
		symmetric bool
		formats   []string
	}{
		{"rtn", true, []string{formatGPTQ, formatGPTQv2, formatAWQ}},
		{"gptq", false, []string{formatGPTQv2, formatAWQ}},
		{"rsq", true, []string{formatGPTQ, formatAWQ}},
	} {
		recipe := func(format string) string {
			return fmt.Sprintf("calibration: {sequences: 8, holdout: 4, length: 32}\nquantize: {method: %s, bits: 4, group_size: 32, symmetric: %v, format: %s}\n",
				c.method, c.symmetric, format)
		}
		b := newBench(t, model(), recipe(formatPacked))
		b.anywhere = true
		_, want, dir := b.run()
		packed := b.open(dir)
		for _, format := range c.formats {
			b.recipe = recipe(format)
			p, err := b.plan()
			b.check(err)
			o := b.options(p, c.method+format)
			res, err := Apply(t.Context(), o)
			b.check(err)
			rep, out := res.Report, o.Out
			got := b.open(out)
			if !slices.Equal(rep.Matrices, want.Matrices) {
				t.Errorf("%s as %s: the report is another one", c.method, format)
			}
			if p.Output.Quantization != format {
				t.Errorf("the plan says %q", p.Output.Quantization)
			}
			if _, err := os.Stat(filepath.Join(out, gptqConfigName)); (err == nil) != strings.HasPrefix(format, formatGPTQ) {
				t.Errorf("%s: %s: %v", format, gptqConfigName, err)
			}
			n := 0
			for l := range got.arch.Layers {
				for _, lin := range got.arch.Layers[l].Linears {
					x, err := packed.whole.Quantized.Affine(lin.Weight)
					b.check(err)
					y, err := got.whole.Quantized.Affine(lin.Weight)
					b.check(err)
					p, q := make([]float32, x.Out*x.In), make([]float32, x.Out*x.In)
					x.Dequantize(p, 0)
					y.Dequantize(q, 0)
					if !slices.Equal(p, q) {
						t.Errorf("%s as %s: %s holds other values", c.method, format, lin.Weight)
					}
					n++
				}
			}
			if n != 14 {
				t.Errorf("%d modules", n)
			}
			for _, info := range packed.ck.Tensors() { // what is not quantized
				if other, ok := got.ck.Lookup(info.Name); ok && !slices.Equal(tensorBytes(t, packed.ck, info), tensorBytes(t, got.ck, other)) {
					t.Errorf("%s: %s has other bytes", format, info.Name)
				}
			}
		}
	}
}

// GPTQ packs 2 and 3 bits too, which are plain weights elsewhere.
func TestGPTQHoldsFewBits(t *testing.T) {
	for _, bits := range []int{2, 3, 8} {
		m := testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, DType: formats.BF16, Seed: 32})
		b := newBench(t, m, fmt.Sprintf("calibration: {sequences: 8, holdout: 4, length: 32}\nquantize: {method: gptq, bits: %d, group_size: -1, format: gptq}\n", bits))
		b.anywhere = true
		_, rep, out := b.run()
		s := b.open(out)
		for _, n := range rep.Matrices {
			st, ok := s.whole.Quantized.Storage(n.Tensor)
			if !ok || st.Code != bits || st.Format != formatGPTQ {
				t.Errorf("%s is stored as %+v", n.Tensor, st)
			}
		}
		if rep.Quality == nil || len(rep.Matrices) != 14 {
			t.Errorf("%d bits: %d matrices, quality %v", bits, len(rep.Matrices), rep.Quality)
		}
	}
}

// What a format cannot store is refused by the recipe.
func TestFormatsRefuse(t *testing.T) {
	for section, want := range map[string]string{
		"{format: awq, bits: 8}":                     "awq has 4 bits",
		"{format: awq, group_size: -1}":              "groups of columns",
		"{format: gptq, symmetric: false}":           "gptq_v2",
		"{format: marlin}":                           "known are",
		"{format: gptq, bits: 5}":                    "known are 2, 3, 4, 8",
		"{method: rtn, format: awq, ignore: [proj]}": "",
	} {
		_, err := ParseRecipe([]byte("quantize: " + section))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", section, err)
		}
	}
}
