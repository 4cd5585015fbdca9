//go:build cuda

package pipeline

import (
	"context"
	"math"
	"os"
	"testing"

	"modelpress/formats/planfile"
	"modelpress/internal/device/cuda"
	"modelpress/internal/device/cuda/emu"
	"modelpress/internal/testmodel"
)

func TestMain(m *testing.M) { os.Exit(emu.Main(m)) }

// runOn plans and applies in an environment.
func (b *bench) runOn(e Env, out string) (*Report, string) {
	b.t.Helper()
	r, err := ParseRecipe([]byte(b.recipe))
	b.check(err)
	r.Target = []string{}
	p, err := Plan(context.Background(), PlanOptions{ModelDir: b.src, Recipe: r, RecipeDigest: sumDigest([]byte(b.recipe)),
		Data: b.paths(), Tool: planfile.Tool{Name: "test", Version: "0"}, Env: e})
	b.check(err)
	o := b.options(p, out)
	o.Env = e
	res, err := Apply(context.Background(), o)
	b.check(err)
	return res.Report, o.Out
}

// Matrices that are quantized or made sparse on a GPU are those that the CPU makes, but for ties that f32 breaks the other way.
func TestMatricesOnGPU(t *testing.T) {
	emu.Require(t)
	d, err := cuda.Open(cuda.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const data = "calibration: {sequences: 6, holdout: 2, length: 32}\n"
	for _, c := range []struct{ model, recipe string }{
		{"llama-gqa", data + "quantize: {bits: 4, group_size: 32}"},
		{"llama-mqa-tied", data + "quantize: {method: gptq, bits: 3, group_size: 32, act_order: true, rotate: none, damp: 0.02}"},
		{"gpt2", "quantize: {method: rtn, bits: 3, group_size: 32}"},
		{"llama-gqa", data + "sparsify: {ratio: 0.5}"},
		{"gpt2", data + "sparsify: {method: wanda, pattern: '2:4'}"},
	} {
		t.Run(c.model+"/"+c.recipe, func(t *testing.T) {
			options := testmodel.Named(c.model).Options
			b := newBench(t, testmodel.New(options), c.recipe)
			want, host := b.runOn(testEnv(), "host")
			e := testEnv()
			e.Device = d
			got, out := b.runOn(e, "gpu")
			if len(got.Matrices) != len(want.Matrices) {
				t.Fatalf("%d and %d tensors", len(got.Matrices), len(want.Matrices))
			}
			for i, n := range want.Matrices {
				if g := got.Matrices[i]; g.Tensor != n.Tensor || math.Abs(g.Loss-n.Loss) > 0.02*n.Loss || g.FellBack != n.FellBack {
					t.Errorf("%+v, on the host %+v", g, n)
				}
			}
			if e := b.logitError(host, out); e > 0.02 {
				t.Errorf("logits differ by %g", e)
			}
		})
	}
}
