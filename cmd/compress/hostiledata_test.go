package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"

	"modelpress/formats"
	"modelpress/formats/safetensors"
	"modelpress/internal/testmodel"
)

// stored is a tensor with its bytes.
type stored struct {
	formats.TensorInfo
	data []byte
}

// rewrite reads every tensor of the single weight file, lets edit change the list, and writes it again.
func (d *damaged) rewrite(edit func(list []stored) []stored) {
	path := filepath.Join(d.dir, weightFile)
	f, err := safetensors.Open(path)
	d.check(err)
	var list []stored
	for _, t := range f.Tensors() {
		n, err := t.Bytes()
		d.check(err)
		s := stored{t, make([]byte, n)}
		d.check(f.ReadAt(t.Name, s.data, 0))
		list = append(list, s)
	}
	d.check(f.Close())
	list = edit(list)
	infos := make([]formats.TensorInfo, len(list))
	for i, s := range list {
		infos[i] = s.TensorInfo
	}
	layout, err := safetensors.PlanLayout(infos, 0)
	d.check(err)
	d.check(os.Remove(path))
	w, err := safetensors.Create(d.dir, layout, map[string]string{"format": "pt"})
	d.check(err)
	for _, s := range list {
		d.check(w.WriteAt(s.Name, s.data, 0))
	}
	d.check(w.Sync())
	d.check(w.Close())
}

// remade gives a tensor another shape and dtype and fills it with small values.
func remade(name string, dt formats.DType, shape ...int64) func(*damaged) {
	return func(d *damaged) {
		d.rewrite(func(list []stored) []stored {
			s := stored{TensorInfo: formats.TensorInfo{Name: name, DType: dt, Shape: shape}}
			n, err := s.Elements()
			d.check(err)
			values := make([]float32, n)
			for i := range values {
				values[i] = float32(i%13-6) / 64
			}
			s.data = make([]byte, n*int64(dt.Size()))
			if dt.IsFloat() {
				d.check(formats.Encode(s.data, values, dt))
			}
			for i := range list {
				if list[i].Name == name {
					list[i] = s
					return list
				}
			}
			return append(list, s)
		})
	}
}

// value sets one element of a tensor before the checkpoint is written.
func value(name string, at int, v float32) func(*testmodel.Model) *testmodel.Model {
	return values(name, func(w []float32) { w[at] = v })
}

func values(name string, edit func(w []float32)) func(*testmodel.Model) *testmodel.Model {
	return func(m *testmodel.Model) *testmodel.Model {
		w, err := m.Values(name)
		if err != nil {
			panic(err)
		}
		edit(w)
		m.Set(name, w)
		return m
	}
}

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))

	base16 = with(func(o *testmodel.Options) { o.DType = formats.F16 })
	baseBF = with(func(o *testmodel.Options) { o.DType = formats.BF16 })
	tied   = with(func(o *testmodel.Options) { o.Tied = true })
	gpt2   = testmodel.Options{Family: "gpt2", D: 64, H: 4, V: 128, Context: 24, Seed: 9}
)

func with(edit func(o *testmodel.Options)) testmodel.Options {
	o := hostileBase
	edit(&o)
	return o
}

const (
	kWeight  = "model.layers.1.self_attn.k_proj.weight"
	embedded = "model.embed_tokens.weight"
	upWeight = "model.layers.0.mlp.up_proj.weight"
)

// hostileData are weights of impossible values and shapes.
var hostileData = []hostile{
	{name: "NaN in a weight", values: value(qWeight, 70, nan), code: 4, want: weightFile + "|" + qWeight + "|70"},
	{name: "Inf in a weight", values: value(kWeight, 5, inf), code: 4, want: weightFile + "|" + kWeight + "|5"},
	{name: "minus Inf in an embedding", values: value(embedded, 8191, -inf), code: 4, want: weightFile + "|" + embedded + "|8191"},
	{name: "NaN in a bf16 norm", options: baseBF, values: value("model.norm.weight", 63, nan), code: 4, want: weightFile + "|model.norm.weight|63"},
	{name: "Inf in an f16 weight", options: base16, values: value(qWeight, 0, inf), code: 4, want: weightFile + "|" + qWeight},
	{name: "NaN beside the model", damage: extraTensor(`"odd":{"dtype":"F32","shape":[],"data_offsets":[361728,361732]}`, "\x00\x00\xc0\x7f"), code: 4, want: weightFile + "|odd"},
	{name: "channel of zeros is fine", values: values(qWeight, func(w []float32) { clear(w[:64]) }), code: 0},
	{name: "channel of zeros under gptq is fine", values: values(qWeight, func(w []float32) { clear(w[:64]) }), recipe: hostileGPTQ, calib: true, code: 0},
	{name: "matrix of zeros is fine", values: values(upWeight, func(w []float32) { clear(w) }), recipe: hostileGPTQ, calib: true, code: 0},
	{name: "dead input is fine", values: values("model.layers.0.input_layernorm.weight", func(w []float32) { clear(w[:8]) }), recipe: hostileGPTQ, calib: true, code: 0},
	{name: "all inputs dead is fine", values: values("model.layers.0.input_layernorm.weight", func(w []float32) { clear(w) }), recipe: hostileGPTQ, calib: true, code: 0},
	{name: "folded norm of zeros is fine", values: values("model.layers.0.input_layernorm.weight", func(w []float32) { clear(w) }), recipe: hostileRSQ, calib: true, code: 0},
	{name: "rank 1 Hessian is fine", values: values(embedded, func(w []float32) { copyRows(w, 64) }), recipe: hostileGPTQ, calib: true, code: 0},
	{name: "rank 1 Hessian under rsq is fine", values: values(embedded, func(w []float32) { copyRows(w, 64) }), recipe: hostileRSQ, calib: true, code: 0},
	{name: "subnormal weights are fine", values: values(qWeight, func(w []float32) { fill(w, 1e-42) }), code: 0},
	{name: "subnormal weights under gptq are fine", values: values(qWeight, func(w []float32) { fill(w, 1e-42) }), recipe: hostileGPTQ, calib: true, code: 0},
	{name: "subnormal f16 weights are fine", options: base16, values: values(qWeight, func(w []float32) { fill(w, 6e-8) }), code: 0},
	{name: "largest f32 under rtn", values: value(qWeight, 3, math.MaxFloat32), code: 0},
	{name: "largest bf16 under rtn", options: baseBF, values: value(qWeight, 3, 3.3895314e38), code: 0},
	{name: "largest f16 under rtn", options: base16, values: value(qWeight, 3, 65504), code: 0},
	{name: "largest f32 under gptq", values: value(qWeight, 3, math.MaxFloat32), recipe: hostileGPTQ, calib: true, code: 4, want: "layer 0|o_proj.weight|Hessian"},
	{name: "largest f32 in the embedding", values: value(embedded, 64*7, math.MaxFloat32), recipe: hostileGPTQ, calib: true, code: 0},
	{name: "bf16 beyond f16 in one layer", options: base16, damage: func(d *damaged) { hugeBF16(d, kWeight) }, code: 4, want: kWeight + "|values up to 9.96921e+37 need a scale that the stored type does not hold"},
	{name: "bf16 beyond f16 under rotation", options: base16, damage: func(d *damaged) { hugeBF16(d, kWeight) }, recipe: "quantize: {method: rtn, group_size: 32, rotate: hadamard}", code: 4, want: kWeight + "|stored type does not hold"},
	{name: "f16 embedding that a rotation overflows", options: base16, values: values(embedded, func(w []float32) { fillRow(w[:64], 65504) }), recipe: "quantize: {method: rtn, group_size: 32, rotate: hadamard}", code: 4, want: embedded + "|too large for F16"},
	{name: "largest values everywhere under rtn", options: base16, values: values(kWeight, func(w []float32) { fillRow(w, 65504) }), code: 0},
	{name: "largest values asymmetric", options: base16, values: values(kWeight, func(w []float32) { fillRow(w, -65504) }), recipe: "quantize: {method: rtn, symmetric: false, group_size: 32}", code: 0},
	{name: "largest values at 2 bits", options: base16, values: values(kWeight, func(w []float32) { fillRow(w, -65504) }), recipe: "quantize: {method: rtn, bits: 2, group_size: 32}", code: 0},
	{name: "mixed dtypes are fine", damage: remade(kWeight, formats.BF16, 32, 64), code: 0},
	{name: "f64 weights are fine", damage: remade(kWeight, formats.F64, 32, 64), code: 0},
	{name: "fp8 weights", damage: remade(kWeight, formats.F8E4M3, 32, 64), code: 4, want: kWeight},
	{name: "k and v disagree", damage: remade(kWeight, formats.F32, 48, 64), code: 4, want: weightFile + "|" + kWeight + "|shape [48 64] where config.json asks for [32 64]"},
	{name: "q rows not a multiple of head dim", damage: remade(qWeight, formats.F32, 60, 64), code: 4, want: qWeight + "|shape [60 64] where config.json asks for [64 64]"},
	{name: "weight turned round", damage: remade(upWeight, formats.F32, 64, 128), code: 4, want: upWeight + "|shape [64 128]"},
	{name: "norm too short", damage: remade("model.norm.weight", formats.F32, 63), code: 4, want: "model.norm.weight|shape [63]"},
	{name: "weight missing", values: func(m *testmodel.Model) *testmodel.Model { return m.Without(kWeight) }, code: 4, want: weightFile + "|" + kWeight + "|missing"},
	{name: "bias on one layer only", damage: remade("model.layers.1.self_attn.k_proj.bias", formats.F32, 32), code: 4, want: "model.layers.1.self_attn.k_proj.bias|no bias"},
	{name: "bias on all layers but one", options: testmodel.Options{Family: "qwen2", D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 9}, values: func(m *testmodel.Model) *testmodel.Model {
		return m.Without("model.layers.1.self_attn.v_proj.bias")
	}, code: 4, want: "model.layers.1.self_attn.v_proj.bias|missing"},
	{name: "tied with another head stored", options: tied, damage: remade("lm_head.weight", formats.F32, 128, 64), code: 4, want: weightFile + "|lm_head.weight|differs from|" + embedded},
	{name: "tied with the same head stored is fine", options: tied, damage: func(d *damaged) {
		d.rewrite(func(list []stored) []stored {
			for _, s := range list {
				if s.Name == embedded {
					s.Name = "lm_head.weight"
					return append(list, s)
				}
			}
			return nil
		})
	}, code: 0},
	{name: "quantized already by gptq", damage: quantizedModule, code: 4, want: "config.json|packed (.qweight)|quantize_config.json"},
	{name: "quantized already by config", damage: configEdit(`"use_cache"`, `"quantization_config": {"quant_method": "gptq", "bits": 4}, "use_cache"`), code: 4, want: "config.json|bits and group_size|start from the checkpoint that is not quantized"},
	{name: "quantized already by this program", damage: quantizedByUs, code: 0},
}

func copyRows(w []float32, n int) {
	for i := n; i < len(w); i++ {
		w[i] = w[i%n]
	}
}

func fill(w []float32, v float32) {
	for i := range w {
		w[i] = v * float32(1+i%3)
	}
}

// fillRow sets every value to v.
func fillRow(w []float32, v float32) {
	for i := range w {
		w[i] = v
	}
}

// hugeBF16 stores a matrix as bf16 with a value that f16 cannot hold.
func hugeBF16(d *damaged, name string) {
	remade(name, formats.BF16, 32, 64)(d)
	d.rewrite(func(list []stored) []stored {
		for _, s := range list {
			if s.Name == name {
				d.check(formats.Encode(s.data[:2], []float32{1e38}, formats.BF16))
			}
		}
		return list
	})
}

// quantizedModule replaces a weight by what GPTQ tools store.
func quantizedModule(d *damaged) {
	module := strings.TrimSuffix(qWeight, ".weight")
	remade(module+".qweight", formats.I32, 8, 64)(d)
	remade(module+".scales", formats.F16, 2, 64)(d)
	d.rewrite(func(list []stored) []stored {
		var kept []stored
		for _, s := range list {
			if s.Name != qWeight {
				kept = append(kept, s)
			}
		}
		return kept
	})
}

func quantizedByUs(d *damaged) {
	recipe, plan := filepath.Join(d.base, "recipe.yaml"), filepath.Join(d.base, "first.json")
	out := filepath.Join(d.base, "first")
	mustRun(d.t, exitOK, "plan", "--model", d.dir, "--recipe", recipe, "-o", plan)
	mustRun(d.t, exitOK, "apply", plan, "--model", d.dir, "-o", out)
	d.dir = out
}

// hostileSides are damaged side files.
var hostileSides = []hostile{
	{name: "tokenizer of 1 GB", damage: func(d *damaged) { d.sparse("tokenizer.json", 1<<30) }, code: 4, want: "tokenizer.json"},
	{name: "tokenizer a link out", damage: func(d *damaged) {
		d.check(os.Symlink("/etc/hostname", filepath.Join(d.dir, "tokenizer.json")))
	}, code: 4, want: "tokenizer.json|out of the checkpoint"},
	{name: "tokenizer not needed is copied unread", damage: func(d *damaged) { d.put("tokenizer.json", "\x00 not JSON") }, code: 0},
	{name: "template is copied unread", damage: func(d *damaged) { d.put("chat_template.jinja", "{{ ''.__class__ }}") }, code: 0},
	{name: "tokenizer not JSON", damage: func(d *damaged) { d.put("tokenizer.json", "{"); d.give("a.txt", "text") }, recipe: hostileGPTQ, calib: true, code: 4, want: "tokenizer.json"},
	{name: "tokenizer of another kind", damage: func(d *damaged) {
		d.put("tokenizer.json", `{"model":{"type":"Unigram","vocab":[]}}`)
		d.give("a.txt", "text")
	}, recipe: hostileGPTQ, calib: true, code: 4, want: "tokenizer.json|Unigram"},
	{name: "text without tokenizer", damage: func(d *damaged) { d.give("a.txt", "text") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.txt|no tokenizer.json"},
	{name: "prompts without tokenizer", recipe: hostileGPTQ + "\nheads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64]}", calib: true, code: 4, want: "tokenizer.json|missing"},
}

const npyHeader = "\x93NUMPY\x01\x00v\x00{'descr': '<i4', 'fortran_order': False, 'shape': "

// hostileTokens are damaged calibration files.
var hostileTokens = []hostile{
	{name: "calibration as it should be", recipe: hostileGPTQ, calib: true, code: 0},
	{name: "calibration missing", damage: func(d *damaged) { d.data = "none.npy" }, recipe: hostileGPTQ, calib: true, code: 4, want: "none.npy|no such file"},
	{name: "calibration empty", damage: func(d *damaged) { d.give("a.npy", "") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.npy"},
	{name: "calibration without rows", damage: func(d *damaged) { d.give("a.npy", npyHeader+"(0, 32), }"+strings.Repeat(" ", 63)+"\n") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.npy"},
	{name: "calibration text empty", damage: func(d *damaged) { d.give("a.txt", "") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.txt: is empty"},
	{name: "calibration JSONL empty", damage: func(d *damaged) { d.give("a.jsonl", "\n") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.jsonl: holds no documents"},
	{name: "calibration JSONL damaged", damage: func(d *damaged) { d.give("a.jsonl", "{\"ids\":[1,2]}\n{\"ids\":[1,") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.jsonl|2"},
	{name: "calibration JSONL id too large", damage: func(d *damaged) { d.give("a.jsonl", "{\"ids\":[1,128]}\n") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.jsonl|128"},
	{name: "calibration JSONL id negative", damage: func(d *damaged) { d.give("a.jsonl", "{\"ids\":[1,-1]}\n") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.jsonl"},
	{name: "calibration id too large", damage: ids(0, 128), recipe: hostileGPTQ, calib: true, code: 4, want: "a.npy|128"},
	{name: "calibration id negative", damage: ids(7, -1), recipe: hostileGPTQ, calib: true, code: 4, want: "a.npy|-1"},
	{name: "calibration cut off", damage: func(d *damaged) {
		b := npy(testmodel.Windows(12, 32, 128, 3))
		d.give("a.npy", string(b[:len(b)-4]))
	}, recipe: hostileGPTQ, calib: true, code: 4, want: "a.npy|bytes long"},
	{name: "calibration shape huge", damage: func(d *damaged) {
		d.give("a.npy", npyHeader+"(1000000000, 1000000000), }"+strings.Repeat(" ", 46)+"\n")
	}, recipe: hostileGPTQ, calib: true, code: 4, want: "a.npy"},
	{name: "calibration pickled", damage: func(d *damaged) {
		d.give("a.npy", strings.Replace(npyHeader, "<i4", "|O4", 1)+"(1, 1), }"+strings.Repeat(" ", 64)+"\n\x80\x04]")
	}, recipe: hostileGPTQ, calib: true, code: 4, want: "a.npy"},
	{name: "calibration a directory", damage: func(d *damaged) { d.data = "model" }, recipe: hostileGPTQ, calib: true, code: 4, want: "model"},
	{name: "calibration an archive that is none", damage: func(d *damaged) { d.give("a.txt.gz", "no gzip") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.txt.gz"},
	{name: "calibration zstd that is none", damage: func(d *damaged) { d.give("a.jsonl.zst", "no zstd") }, recipe: hostileGPTQ, calib: true, code: 4, want: "a.jsonl.zst"},
	{name: "calibration weights", damage: func(d *damaged) { d.data = "model/" + weightFile }, recipe: hostileGPTQ, calib: true, code: 4, want: weightFile + `|no tensor "ids"`},
	{name: "calibration too little", damage: func(d *damaged) { d.give("a.npy", string(npy(testmodel.Windows(5, 32, 128, 3)))) }, recipe: hostileGPTQ, calib: true, code: 4, want: "calibration"},
	{name: "windows longer than the data", recipe: "calibration: {sequences: 1, holdout: 0, length: 1048576}\nquantize: {method: gptq, group_size: 32}", calib: true, code: 4, want: "calibration data|1048576"},
	{name: "windows longer than learned positions", options: gpt2, recipe: "calibration: {sequences: 1, holdout: 0, length: 32}\nquantize: {method: gptq, bits: 3, group_size: 32}", calib: true, code: 3, want: "windows of 32 tokens, and the model has 24 learned positions"},
	{name: "the same window everywhere", damage: func(d *damaged) {
		one := testmodel.Windows(1, 32, 128, 3)[0]
		rows := make([][]int32, 12)
		for i := range rows {
			rows[i] = one
		}
		d.give("a.npy", string(npy(rows)))
	}, recipe: hostileGPTQ, calib: true, code: 4, want: "calibration data|repeat"},
	{name: "one token everywhere is fine", damage: func(d *damaged) {
		rows := make([][]int32, 6)
		for i := range rows {
			rows[i] = make([]int32, 32)
		}
		d.give("a.npy", string(npy(rows)))
	}, recipe: "calibration: {sequences: 6, holdout: 0, length: 32}\nquantize: {method: rsq, group_size: 32}", calib: true, code: 0},
	{name: "bos outside the vocabulary", recipe: strings.Replace(hostileGPTQ, "length: 32", "length: 32, bos: '128'", 1), calib: true, code: 3, want: "bos|128"},
}

// ids gives data with one id replaced.
func ids(at int, id int32) func(*damaged) {
	return func(d *damaged) {
		rows := testmodel.Windows(12, 32, 128, 3)
		rows[0][at] = id
		d.give("a.npy", string(npy(rows)))
	}
}

// hostileRecipes are recipes that ask for what cannot be.
var hostileRecipes = []hostile{
	{name: "recipe not YAML", recipe: "\x00\x01", code: 3, want: "recipe"},
	{name: "recipe a weight file", recipe: prefixed("{}") + "\xff\xfe", code: 3, want: "recipe"},
	{name: "recipe nested deep", recipe: strings.Repeat("[", 60_000), code: 3, want: "recipe|deeper"},
	{name: "recipe of 1 MB", recipe: "# " + strings.Repeat("x", 1<<20), code: 3, want: "recipe|65536"},
	{name: "recipe of aliases", recipe: "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]", code: 3, want: "recipe"},
	{name: "recipe that refers to itself", recipe: "quantize: &a {ignore: *a}", code: 3, want: "recipe"},
	{name: "recipe with a slow expression is fine", recipe: "quantize: {method: rtn, group_size: 32, ignore: ['re:(a*)*b', lm_head, 're:.*k_proj']}", code: 3, want: "matches no module"},
	{name: "rotation impossible", recipe: "quantize: {method: rtn, bits: 3, group_size: 32, rotate: hadamard}", options: gpt2, code: 3, want: "rotate"},
	{name: "heads of a pruned model", options: testmodel.Options{D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 9, PerLayer: map[int]testmodel.Sizes{1: {NoAttention: true}}}, recipe: hostileRSQ, calib: true, code: 3, want: "layer 1 has other head counts"},
	{name: "induction in a short context is fine", options: with(func(o *testmodel.Options) { o.Context = 16 }), recipe: "calibration: {sequences: 4, holdout: 0, length: 16}\nheads: {method: induction, full_share: 0.5, sink: 1, recent: 4}", calib: true, code: 0},
}
