package convert

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/gptq"
	"modelpress/formats/hf"
	"modelpress/formats/planfile"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// quantizedKinds are all forms in which quantized weights are read.
var quantizedKinds = []struct {
	name string
	make func(t *testing.T, src string) string
}{
	{"packed int4", into(Packed, func(o *Options) { o.Bits, o.Group, o.DType = 4, 64, "f16" })},
	{"packed int4 with zero points", into(Packed, func(o *Options) { o.Bits, o.Group, o.Asymmetric = 4, 32, true })},
	{"packed int8 by rows", into(Packed, func(o *Options) { o.Bits, o.Group, o.DType = 8, -1, "bf16" })},
	{"int8", into(Packed, func(o *Options) { o.Scheme, o.DType = "w8a8", "bf16" })},
	{"fp8", into(Packed, func(o *Options) { o.Scheme, o.DType = "fp8", "bf16" })},
	{"fp8 by rows", into(Packed, func(o *Options) { o.Scheme, o.DType = "fp8-dynamic", "bf16" })},
	{"fp8 in blocks", into(Packed, func(o *Options) { o.Scheme, o.DType = "fp8-block", "bf16" })},
	{"nvfp4", into(Packed, func(o *Options) { o.Scheme, o.DType = "nvfp4", "bf16" })},
	{"mxfp4", into(Packed, func(o *Options) { o.Scheme, o.DType = "mxfp4", "bf16" })},
	{"gptq", into(GPTQ, func(o *Options) { o.Group, o.DType = 64, "f16" })},
	{"gptq of 8 bits", into(GPTQ, func(o *Options) { o.Bits, o.Group = 8, -1 })},
	{"gptq_v2 of 3 bits with zero points", into(GPTQv2, func(o *Options) { o.Bits, o.Group, o.Asymmetric = 3, 32, true })},
	{"gptq in an order", actOrdered},
	{"gptq beside config.json", func(t *testing.T, src string) string {
		dir := into(GPTQ, func(o *Options) { o.Group = 64 })(t, src)
		edit(t, dir, nil, "quantization_config")
		return dir
	}},
	{"awq", into(AWQ, func(o *Options) { o.Group, o.Asymmetric, o.DType = 64, true, "f16" })},
	{"F16", into(GGUF, func(o *Options) { o.Type = "f16" })},
	{"Q4_0", into(GGUF, func(o *Options) { o.Type = "q4_0" })},
	{"Q5_1", into(GGUF, func(o *Options) { o.Type = "q5_1" })},
	{"Q8_0", into(GGUF, func(o *Options) { o.Type = "q8_0" })},
	{"Q4_K_M", into(GGUF, func(o *Options) { o.Type = "q4_k_m" })},
	{"Q6_K", into(GGUF, func(o *Options) { o.Type = "q6_k" })},
}

func into(format string, change func(o *Options)) func(t *testing.T, src string) string {
	return func(t *testing.T, src string) string {
		out, _ := convert(t, src, format, change)
		if format != GGUF {
			if v, err := pipeline.Verify(t.Context(), out, options("", "", "").Env); err != nil || len(v.Faults) > 0 {
				t.Errorf("verify: %+v, %v", v, err)
			}
		}
		return out
	}
}

// actOrdered is a checkpoint of GPTQ whose columns belong to groups in an order of their own.
func actOrdered(t *testing.T, src string) string {
	c, err := checkpoint.Open(src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f := gptq.Format{Bits: 4, Group: 32, ActOrder: true, Symmetric: true}
	var list []formats.Tensor
	for _, info := range c.Tensors() {
		module, isWeight := strings.CutSuffix(info.Name, "_proj.weight")
		if !isWeight {
			n, _ := info.Bytes()
			b := make([]byte, n)
			if err := c.ReadAt(info.Name, b, 0); err != nil {
				t.Fatal(err)
			}
			list = append(list, formats.Tensor{TensorInfo: info, Data: b})
			continue
		}
		out, in := int(info.Shape[0]), int(info.Shape[1])
		m := &formats.Affine{Out: out, In: in, Bits: 4, Group: 32, Scale: formats.F16, Codes: make([]int8, out*in), Scales: make([]float32, out*in/32), GIdx: make([]int32, in)}
		for i := range m.Codes {
			m.Codes[i] = int8(i*11%16 - 8)
		}
		for i := range m.Scales {
			m.Scales[i] = float32(1+i%9) / 1024
		}
		for i := range m.GIdx {
			m.GIdx[i] = int32(i % (in / 32))
		}
		some, err := f.Encode(module+"_proj", m)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, some...)
	}
	config, err := hf.EditConfig(c.Config(), []hf.KV{{Key: "quantization_config", Value: f.Config(nil, nil)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return save(t, list, config)
}

// windowsFile writes windows of random tokens.
func windowsFile(t *testing.T) string {
	t.Helper()
	var lines []string
	for _, w := range testmodel.Windows(8, 32, 64, 5) {
		raw, err := json.Marshal(map[string]any{"ids": w})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(raw))
	}
	data := filepath.Join(t.TempDir(), "data.jsonl")
	if err := os.WriteFile(data, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return data
}

// evaluate returns the mean negative log-likelihood of a model on random tokens.
func evaluate(t *testing.T, model, data string) float64 {
	t.Helper()
	e, err := pipeline.Evaluate(t.Context(), pipeline.EvalOptions{ModelDir: model, Data: data, Length: 32, BOS: "auto", Env: options("", "", "").Env})
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(model), err)
	}
	return e.Perplexity.NLL
}

// applied plans a recipe on a model, applies it, verifies the result and returns it.
func applied(t *testing.T, model, data, recipe string) (*planfile.Plan, *pipeline.Report, string) {
	t.Helper()
	r, err := pipeline.ParseRecipe([]byte("target: [hf, vllm]\ncalibration: {sequences: 6, holdout: 2, length: 32}\n" + recipe))
	if err != nil {
		t.Fatal(err)
	}
	env := options("", "", "").Env
	paths := pipeline.DataPaths{Calib: data}
	var foreseen []pipeline.Verdict
	p, err := pipeline.Plan(t.Context(), pipeline.PlanOptions{ModelDir: model, Recipe: r, RecipeDigest: "sha256:" + strings.Repeat("0", 64), Data: paths,
		Tool: planfile.Tool{Name: "test", Version: "1"}, Env: env, Verdicts: func(list []pipeline.Verdict) { foreseen = list }})
	if err != nil {
		t.Fatalf("plan: %v", err)
	}
	raw, err := planfile.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	res, err := pipeline.Apply(t.Context(), pipeline.ApplyOptions{Plan: p, PlanBytes: raw, ModelDir: model, Out: out, Data: paths, Env: env})
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	v, err := pipeline.Verify(t.Context(), out, env)
	if err != nil || len(v.Faults) > 0 {
		t.Errorf("verify: %v, %v", v, err)
	}
	seen, err := pipeline.Inspect(out, false, r.Target)
	if err != nil || !reflect.DeepEqual(foreseen, seen.Targets) {
		t.Errorf("the plan foresees %+v, the result has %+v, %v", foreseen, seen.Targets, err)
	}
	return p, res.Report, out
}

// Quantized models are evaluated as their dequantized copies are, planned on and applied to.
func TestQuantizedModelsAreWorkedOn(t *testing.T) {
	src := write(t, testmodel.New(testmodel.Options{D: 256, H: 4, G: 2, K: 32, F: 256, V: 64, Layers: 1, Seed: 41}))
	data := windowsFile(t)
	for _, kind := range quantizedKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel() // it waits for the disk more than it computes
			model := kind.make(t, src)
			plain, _ := convert(t, model, Safetensors, func(o *Options) { o.DType = "f32" })
			if a, b := evaluate(t, model, data), evaluate(t, plain, data); !(math.Abs(a-b) <= 1e-6*b) {
				t.Errorf("negative log-likelihood %v, dequantized %v", a, b)
			}
			looked(t, model, data)
			changed(t, model, plain, data)
		})
	}
}

// looked checks a plan that changes no weight: they stay as they are stored where a directory holds them.
func looked(t *testing.T, model, data string) {
	p, rep, out := applied(t, model, data, "heads: {method: induction, full_share: 0.5, sink: 2, recent: 8}\n")
	a, b := stored(t, model), stored(t, out)
	gguf := strings.HasSuffix(model, ".gguf")
	if before := bytesOf(a); rep.BytesBefore != before || !gguf && rep.BytesAfter != before {
		t.Errorf("%d bytes became %d by the report; the model has %d", rep.BytesBefore, rep.BytesAfter, before)
	}
	if p.Source.Family != "llama" || rep.PlanID != p.PlanID {
		t.Errorf("the report is of plan %s", rep.PlanID)
	}
	if gguf {
		if keys(t, out)["quantization_config"] != nil {
			t.Error("plain weights are said to be quantized")
		}
		return
	}
	if len(a) != len(b) {
		t.Errorf("%d tensors became %d", len(a), len(b))
	}
	for name, data := range a {
		if !slices.Equal(data, b[name]) {
			t.Errorf("%s has other bytes", name)
		}
	}
	if keys(t, out)["quantization_config"] == nil {
		t.Error("the configuration does not say how weights are stored")
	}
	same(t, "looked at", values(t, model), values(t, out))
}

// changed checks a plan that quantizes: it starts from the values that the codes stand for.
func changed(t *testing.T, model, plain, data string) {
	_, rep, out := applied(t, model, data, "quantize: {method: rtn, bits: 8, group_size: 32}\n")
	if before := bytesOf(stored(t, model)); rep.BytesBefore != before {
		t.Errorf("%d bytes before by the report; the model has %d", rep.BytesBefore, before)
	}
	config := keys(t, out)
	quant, _ := config["quantization_config"].(map[string]any)
	if quant["quant_method"] != "compressed-tensors" || config["compression_config"] != nil {
		t.Errorf("the configuration says %v", quant)
	}
	if _, err := os.Stat(filepath.Join(out, "quantize_config.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("quantize_config.json: %v", err)
	}
	want, got := values(t, plain), values(t, out)
	for _, m := range rep.Matrices {
		var sum errorSum
		sum.add(want[m.Tensor], got[m.Tensor])
		if worst := sum.num / sum.den; !(worst < 2e-4) {
			t.Errorf("%s: relative error %g", m.Tensor, worst)
		}
	}
	if len(rep.Matrices) != 7 || len(got) != len(want) {
		t.Errorf("%d matrices, %d tensors of %d", len(rep.Matrices), len(got), len(want))
	}
}

// stored reads every tensor of a model as it is stored.
func stored(t *testing.T, path string) map[string][]byte {
	t.Helper()
	c, err := checkpoint.Open(path, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all := map[string][]byte{}
	if c.GGUF != nil {
		for _, info := range c.GGUF.Tensors() {
			n, _ := info.Bytes()
			all[info.Name] = make([]byte, n)
		}
		return all
	}
	for _, info := range c.Tensors() {
		n, err := info.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		all[info.Name] = make([]byte, n)
		if err := c.ReadAt(info.Name, all[info.Name], 0); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func bytesOf(all map[string][]byte) int64 {
	n := int64(0)
	for _, b := range all {
		n += int64(len(b))
	}
	return n
}

// An attention plan beside quantized weights goes along with them into other formats, and with what a recipe makes of their values. It is for
// the weights as they are stored, and one for others is refused.
func TestAttentionPlanOfQuantizedModels(t *testing.T) {
	src := write(t, testmodel.New(testmodel.Options{D: 128, H: 4, G: 2, K: 32, F: 128, V: 64, Layers: 2, Seed: 42}))
	data := windowsFile(t)
	for _, format := range []string{Packed, GPTQ} {
		model, _ := convert(t, src, format, func(o *Options) { o.Bits, o.Group, o.DType = 4, 32, "f16" })
		_, _, planned := applied(t, model, data, "heads: {method: induction, full_share: 0.5, sink: 2, recent: 8}\n")
		_, _, again := applied(t, planned, data, "quantize: {method: rtn, bits: 8, group_size: 32}\n")
		results := []string{planned, again}
		for _, to := range []string{AWQ, Safetensors, Same} {
			out, _ := convert(t, planned, to, nil)
			results = append(results, out)
		}
		for _, out := range results {
			e, err := pipeline.Evaluate(t.Context(), pipeline.EvalOptions{ModelDir: out, Data: data, Length: 32, BOS: "auto", AttentionPlan: "auto", Env: options("", "", "").Env})
			if err != nil || e.Served == nil {
				t.Errorf("%s: %v", format, err)
			}
		}
		file, _ := convert(t, planned, GGUF, nil)
		if raw, err := os.ReadFile(file); err != nil || !strings.Contains(string(raw), planKey) {
			t.Errorf("%s: GGUF has no plan: %v", format, err)
		}
		weights := filepath.Join(planned, "model.safetensors")
		raw, err := os.ReadFile(weights)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)*2/3] ^= 1
		if err := os.WriteFile(weights, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := pipeline.ParseRecipe([]byte("target: [hf]\nquantize: {method: rtn, bits: 8, group_size: 32}\n"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pipeline.Plan(t.Context(), pipeline.PlanOptions{ModelDir: planned, Recipe: r, RecipeDigest: "sha256:" + strings.Repeat("0", 64), Env: options("", "", "").Env})
		if pipeline.KindOf(err) != pipeline.KindStale {
			t.Errorf("%s: a plan for other weights: %v", format, err)
		}
		o := options(planned, AWQ, filepath.Join(t.TempDir(), "x"))
		if _, err := Convert(t.Context(), o); pipeline.KindOf(err) != pipeline.KindStale {
			t.Errorf("%s: converted with a plan for other weights: %v", format, err)
		}
	}
}
