package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/safetensors"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// diff compares two models, which must work.
func diff(t *testing.T, a, b string, change func(o *DiffOptions)) *Difference {
	t.Helper()
	o := DiffOptions{A: a, B: b, Threads: 2, Env: pipeline.Env{Progress: quiet{}}}
	if change != nil {
		change(&o)
	}
	d, err := Diff(t.Context(), o)
	if err != nil {
		t.Fatalf("%s, %s: %v", filepath.Base(a), filepath.Base(b), err)
	}
	return d
}

// found returns what a comparison says of one tensor.
func (d *Difference) found(t *testing.T, name string) *TensorDifference {
	t.Helper()
	for i := range d.Tensors {
		if d.Tensors[i].Tensor == name {
			return &d.Tensors[i]
		}
	}
	t.Fatalf("nothing is said of %s", name)
	return nil
}

// reference is a comparison written as plainly as it can be.
type reference struct {
	changed, zeros, apart int64
	nan, inf              [2]int64
	relative, most, cos   float64
}

func referenceOf(a, b []float32) (r reference) {
	var num, aa, bb, ab float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		differs := math.Float32bits(a[i]) != math.Float32bits(b[i])
		if differs {
			r.changed++
		}
		finite := true
		for side, v := range []float64{x, y} {
			if math.IsNaN(v) {
				r.nan[side]++
				finite = false
			}
			if math.IsInf(v, 0) {
				r.inf[side]++
				finite = false
			}
		}
		if !finite {
			if differs {
				r.apart++
			}
			continue
		}
		if differs && x == 0 && y == 0 {
			r.zeros++
		}
		num += (x - y) * (x - y)
		aa += x * x
		bb += y * y
		ab += x * y
		r.most = math.Max(r.most, math.Abs(x-y))
	}
	r.relative, r.cos = num/aa, ab/math.Sqrt(aa*bb)
	return r
}

// check compares what was found with the reference.
func (r reference) check(t *testing.T, d *TensorDifference, values int) {
	t.Helper()
	if d.Values != int64(values) || d.Changed != r.changed || d.SignOfZero != r.zeros || d.NotFinite != r.apart || d.NaN != r.nan || d.Inf != r.inf {
		t.Errorf("%s: %+v, want %+v of %d values", d.Tensor, *d, r, values)
	}
	for _, c := range []struct {
		name  string
		got   *float64
		want  float64
		close float64
	}{{"relative error", d.RelativeError, r.relative, 1e-5 * r.relative}, {"largest", d.MaxError, r.most, 1e-5 * r.most}, {"cosine", d.Cosine, r.cos, 2e-9}} {
		if c.got == nil || math.Abs(*c.got-c.want) > c.close {
			t.Errorf("%s: %s %v, want %v", d.Tensor, c.name, text(c.got), c.want)
		}
	}
}

func text(v *float64) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprint(*v)
}

// Sums agree with a plain reference, values that are not finite and signs of zeros among them.
func TestPairSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	special := []float32{0, float32(math.Copysign(0, -1)), float32(math.NaN()), math.Float32frombits(0x7fc00001), float32(math.Inf(1)), float32(math.Inf(-1)),
		math.MaxFloat32, math.SmallestNonzeroFloat32}
	for round := range 40 {
		n := 1 + rng.IntN(3000)
		a, b := make([]float32, n), make([]float32, n)
		for i := range a {
			a[i] = float32(rng.NormFloat64())
			b[i] = a[i]
			switch rng.IntN(6) {
			case 0:
				b[i] += float32(rng.NormFloat64()) / 100
			case 1:
				if round%2 == 0 {
					a[i] = special[rng.IntN(len(special))]
					b[i] = special[rng.IntN(len(special))]
				}
			}
		}
		cut := rng.IntN(n + 1)
		var one, two pairSum
		one.add(a[:cut], b[:cut])
		two.add(a[cut:], b[cut:])
		one.merge(two)
		got := TensorDifference{Tensor: "float32"}
		got.fill(&one)
		referenceOf(a, b).check(t, &got, n)
		var wide pairSum
		x, y := make([]float64, n), make([]float64, n)
		for i := range a {
			x[i], y[i] = float64(a[i]), float64(b[i])
		}
		wide.addWide(x, y, func(i int) bool { return math.Float32bits(a[i]) == math.Float32bits(b[i]) })
		got = TensorDifference{Tensor: "float64"}
		got.fill(&wide)
		referenceOf(a, b).check(t, &got, n)
	}
}

// Where there is no number to name, none is named.
func TestErrorsThatAreNoNumbers(t *testing.T) {
	for _, c := range []struct {
		a, b             []float32
		relative, cosine string
	}{
		{[]float32{0, 0}, []float32{0, 1}, "null", "null"},
		{[]float32{0, 0}, []float32{0, 0}, "0", "null"},
		{[]float32{1, 1}, []float32{0, 0}, "1", "null"},
		{[]float32{1, -1}, []float32{-1, 1}, "4", "-1"},
		{nil, nil, "0", "null"},
	} {
		var s pairSum
		s.add(c.a, c.b)
		if text(s.relative()) != c.relative || text(s.cosine()) != c.cosine {
			t.Errorf("%v, %v: relative error %s, cosine %s", c.a, c.b, text(s.relative()), text(s.cosine()))
		}
	}
}

// planted changes some values of a model and returns both.
func planted(t *testing.T, name string) (a, b string, was, is []float32) {
	t.Helper()
	o := testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 31}
	m := testmodel.New(o)
	was, err := m.Values(name)
	if err != nil {
		t.Fatal(err)
	}
	was[7] = 0
	was[8] = float32(math.Inf(1))
	was[9] = float32(math.Inf(1))
	m.Set(name, was)
	is = slices.Clone(was)
	is[0] += 0.25
	is[1] *= 1.5
	is[3] = float32(math.NaN())
	is[7] = float32(math.Copysign(0, -1))
	is[8] = 1
	changed := testmodel.New(o)
	changed.Set(name, is)
	return write(t, m), write(t, changed), was, is
}

func TestDiffFindsWhatChanged(t *testing.T) {
	const name = "model.layers.1.mlp.up_proj.weight"
	a, b, was, is := planted(t, name)
	d := diff(t, a, b, func(o *DiffOptions) { o.Equal, o.MaxError = true, new(float64) })
	if d.Equal || len(d.Config) != 0 {
		t.Errorf("equal %t, configurations differ in %v", d.Equal, d.Config)
	}
	for i := range d.Tensors {
		one := &d.Tensors[i]
		if one.Tensor != name && (one.Status != Equal || one.Changed != 0 || *one.RelativeError != 0 || *one.MaxError != 0) {
			t.Errorf("%+v", *one)
		}
	}
	got := d.found(t, name)
	if got.Status != Changed || got.Kind != "up" || got.A.Bytes != int64(4*len(was)) || got.A.Bits != 32 || got.B.Type != "F32" {
		t.Errorf("%+v", *got)
	}
	referenceOf(was, is).check(t, got, len(was))
	for _, g := range d.Gates {
		if g.Passed || !slices.Equal(g.Broken, []string{name}) {
			t.Errorf("%+v", g)
		}
	}
	if worst := d.Worst(3); len(worst) != 1 || worst[0].Tensor != name {
		t.Errorf("worst are %v", worst)
	}
	if d := diff(t, a, b, func(o *DiffOptions) { o.Equal, o.Ignore = true, []string{"re:.*up_pro"} }); !d.Equal || d.Failed() != nil || len(d.Ignored) != 2 {
		t.Errorf("what is left out is compared: %+v", d.Gates)
	}
	if d := diff(t, a, b, func(o *DiffOptions) { o.Equal, o.Ignore = true, []string{strings.TrimSuffix(name, ".weight")} }); !d.Equal || len(d.Ignored) != 1 {
		t.Error("a module that is left out is compared")
	}
}

// The bound of an error is the largest that passes; what is in no error never passes.
func TestMaxError(t *testing.T) {
	o := testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 32}
	m := testmodel.New(o)
	for _, name := range []string{"model.norm.weight", "model.embed_tokens.weight"} {
		v, err := m.Values(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range v {
			v[i] *= 1.125
		}
		m.Set(name, v)
	}
	a, b := write(t, testmodel.New(o)), write(t, m)
	for _, c := range []struct {
		bound float64
		want  int
	}{{0.125*0.125 + 1e-7, 0}, {0.125*0.125 - 1e-7, 2}, {0, 2}} {
		d := diff(t, a, b, func(o *DiffOptions) { o.MaxError = &c.bound })
		err := d.Failed()
		if got := len(d.Gates[0].Broken); got != c.want || (err != nil) != (c.want > 0) || err != nil && pipeline.KindOf(err) != pipeline.KindGate {
			t.Errorf("bound %g: %d tensors break it, want %d (%v)", c.bound, got, c.want, err)
		}
	}
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1)} {
		_, err := Diff(t.Context(), DiffOptions{A: a, B: b, MaxError: &bad, Env: pipeline.Env{Progress: quiet{}}})
		if pipeline.KindOf(err) != pipeline.KindUsage {
			t.Errorf("bound %v: %v", bad, err)
		}
	}
	one := TensorDifference{Status: Changed, NotFinite: 1, RelativeError: new(float64)}
	if none := (TensorDifference{Status: Changed}); one.within(1) || none.within(1) {
		t.Error("a value that is in no error passes")
	}
}

// Ten tensors are named and the others counted.
func TestFailedNamesTen(t *testing.T) {
	a := write(t, testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 33}))
	b := write(t, testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 34}))
	d := diff(t, a, b, func(o *DiffOptions) { o.Equal = true })
	text := d.Failed().Error()
	n := len(d.Gates[0].Broken)
	if n <= 10 || strings.Count(text, "relative error") != 10 || !strings.HasSuffix(text, fmt.Sprintf(", and %d more", n-10)) {
		t.Errorf("%d tensors: %s", n, text)
	}
}

// Models of other shapes and other depth are compared as far as they have the same tensors.
func TestDiffOtherShapes(t *testing.T) {
	a := write(t, testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 35}))
	b := write(t, testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 128, Layers: 3, Seed: 35}))
	d := diff(t, a, b, func(o *DiffOptions) { o.Equal = true })
	for name, want := range map[string]string{"model.layers.0.mlp.up_proj.weight": OtherShape, "model.layers.2.mlp.up_proj.weight": OnlyInB, "model.norm.weight": Equal} {
		if got := d.found(t, name); got.Status != want {
			t.Errorf("%s: %s, want %s", name, got.Status, want)
		}
	}
	back := diff(t, b, a, nil)
	if got := back.found(t, "model.layers.2.input_layernorm.weight"); got.Status != OnlyInA || got.B != nil || got.Kind != "norm" {
		t.Errorf("%+v", *got)
	}
	keys := []string{}
	for _, k := range d.Config {
		keys = append(keys, k.Key)
	}
	if !slices.Equal(keys, []string{"intermediate_size", "num_hidden_layers"}) {
		t.Errorf("configurations differ in %v", keys)
	}
	if d.A.KVBytesToken != 2*2*2*2*16 || d.B.KVBytesToken != 3*2*2*2*16 {
		t.Errorf("%d and %d bytes of cache", d.A.KVBytesToken, d.B.KVBytesToken)
	}
}

// Every quantized form of the same codes has equal values, and so has a plain copy of them.
func TestDiffOfCodes(t *testing.T) {
	src := write(t, testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 36}))
	for _, asymmetric := range []bool{false, true} {
		ct, _ := convert(t, src, Packed, func(o *Options) { o.Bits, o.Group, o.DType, o.Asymmetric = 4, 32, "f16", asymmetric })
		list := map[string]string{}
		for _, format := range []string{GPTQ, GPTQv2, AWQ, GGUF} {
			list[format], _ = convert(t, ct, format, func(o *Options) { o.Lossless = true })
		}
		for format, path := range list {
			d := diff(t, ct, path, nil)
			if q := d.found(t, "model.layers.0.self_attn.q_proj.weight"); !d.Equal || q.A.Bits < 4 || q.A.Bits > 5.5 || q.A.Bytes == 0 {
				t.Errorf("compressed-tensors and %s: %+v", format, *q)
			}
		}
		plain, _ := convert(t, list[GPTQ], Safetensors, func(o *Options) { o.DType = "f32" })
		if d := diff(t, plain, list[AWQ], func(o *DiffOptions) { o.Ignore = []string{"re:.*norm", "model.embed_tokens", "lm_head"} }); !d.Equal {
			t.Errorf("a plain copy differs from its codes in %v", d.Worst(3))
		}
		half, _ := convert(t, ct, Safetensors, func(o *Options) { o.DType = "f16" })
		if d := diff(t, half, ct, nil); !d.Equal {
			t.Errorf("a plain copy differs from compressed-tensors in %v", d.Worst(3))
		}
		if d := diff(t, src, ct, nil); d.Equal || d.A.BitsPerWeight != 32 || d.B.BitsPerWeight >= 20 {
			t.Errorf("%+v, %+v", d.A, d.B)
		}
	}
}

// The figures are those that the conversion itself measured.
func TestDiffAgreesWithConversion(t *testing.T) {
	src := write(t, testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 37}))
	out, r := convert(t, src, GGUF, func(o *Options) { o.Type, o.Prove = "q8_0", true })
	d := diff(t, src, out, nil)
	for _, n := range r.Tensors {
		if n.Values == 0 {
			continue
		}
		got := d.found(t, n.Tensor)
		if *got.RelativeError != n.RelativeError || *got.MaxError != n.MaxError || got.Changed-got.SignOfZero != n.Changed {
			t.Errorf("%s: %+v, the conversion says %+v", n.Tensor, *got, n)
		}
	}
}

// A head that one side stores is compared with the embedding that the other ties it to.
func TestDiffTiedHead(t *testing.T) {
	tied := write(t, testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, Tied: true, Seed: 38}))
	own, _ := convert(t, tied, Safetensors, func(o *Options) { o.Untie = true })
	for _, c := range []struct{ a, b string }{{tied, own}, {own, tied}} {
		d := diff(t, c.a, c.b, func(o *DiffOptions) { o.Equal = true })
		head := d.found(t, "lm_head.weight")
		if err := d.Failed(); err != nil || head.Status != Equal || head.Kind != "head" || head.A.Tied == head.B.Tied {
			t.Errorf("%v: %+v", err, *head)
		}
		for _, s := range []*Stored{head.A, head.B} {
			if s.Tied && (s.Name != "model.embed_tokens.weight" || s.Bytes != 0) {
				t.Errorf("%+v", *s)
			}
		}
	}
}

// Names may differ in what all begin with, or by rules.
func TestDiffNames(t *testing.T) {
	m := testmodel.New(testmodel.Options{Family: "gpt2", D: 64, H: 4, V: 128, Seed: 39})
	long := write(t, m)
	bare, _ := convert(t, long, Same, func(o *Options) { o.Rename = []string{`^transformer\.=`} })
	if d := diff(t, long, bare, nil); !d.Equal || d.found(t, "transformer.wte.weight").B.Name != "wte.weight" {
		t.Errorf("with the beginning of names in A: %+v", d.Tensors[0])
	}
	if d := diff(t, bare, long, nil); !d.Equal || d.found(t, "h.0.attn.c_attn.weight").Kind != "qkv" {
		t.Errorf("with the beginning of names in B: %+v", d.Tensors[0])
	}
	src := write(t, testmodel.Named("llama-gqa"))
	other, _ := convert(t, src, Same, func(o *Options) { o.Rename = []string{`^model\.=net.`} })
	if d := diff(t, src, other, nil); d.Equal || d.B.Architecture != "" || len(d.B.Warnings) == 0 || d.found(t, "net.norm.weight").Kind != "other" {
		t.Errorf("%+v", d.B)
	}
	if d := diff(t, src, other, func(o *DiffOptions) { o.Rename = []string{`^net\.=model.`} }); !d.Equal || d.found(t, "model.norm.weight").B.Name != "net.norm.weight" {
		t.Error("renamed tensors are not found")
	}
	for _, rules := range [][]string{{".*=x"}, {"x"}, {"(=x"}} {
		_, err := Diff(t.Context(), DiffOptions{A: src, B: other, Rename: rules, Env: pipeline.Env{Progress: quiet{}}})
		if pipeline.KindOf(err) != pipeline.KindUsage {
			t.Errorf("rules %q: %v", rules, err)
		}
	}
}

// writeTensors writes a directory of a family that nobody knows.
func writeTensors(t *testing.T, list []formats.Tensor) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "odd")
	infos := make([]formats.TensorInfo, len(list))
	for i := range list {
		infos[i] = list[i].TensorInfo
	}
	l, err := safetensors.PlanLayout(infos, 0)
	if err = errors.Join(err, os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"model_type": "odd"}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	w, err := safetensors.Create(dir, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		err = errors.Join(err, w.WriteAt(one.Name, one.Data, 0))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Every element type is compared: by its bits, and by the numbers that they are.
func TestDiffOfEveryType(t *testing.T) {
	le := func(v ...uint64) (b []byte) {
		for _, x := range v {
			for k := range 8 {
				b = append(b, byte(x>>(8*k)))
			}
		}
		return b
	}
	for _, c := range []struct {
		dt       formats.DType
		a, b     []byte
		changed  int64
		max, rel float64
	}{
		{formats.Bool, []byte{0, 1, 1}, []byte{0, 1, 0}, 1, 1, 0.5},
		{formats.U8, []byte{0, 200}, []byte{0, 100}, 1, 100, 0.25},
		{formats.I8, []byte{1, 0xff}, []byte{1, 2}, 1, 3, 4.5},
		{formats.U16, []byte{0, 0x80}, []byte{0, 0x40}, 1, 0x4000, 0.25},
		{formats.I16, []byte{0xff, 0xff}, []byte{1, 0}, 1, 2, 4},
		{formats.U32, []byte{0, 0, 0, 0x80}, []byte{0, 0, 0, 0x40}, 1, 1 << 30, 0.25},
		{formats.I32, []byte{0xfe, 0xff, 0xff, 0xff}, []byte{2, 0, 0, 0}, 1, 4, 4},
		{formats.U64, le(1<<63, 1<<53+1), le(1<<63, 1<<53), 1, 0, 0}, // which float64 cannot tell apart
		{formats.I64, le(math.MaxUint64), le(1), 1, 2, 4},
		{formats.F64, le(math.Float64bits(1), math.Float64bits(1+1e-12)), le(math.Float64bits(1), math.Float64bits(1)), 1, 1.00009e-12, 5.0009e-25},
		{formats.F8E8M0, []byte{127, 128}, []byte{127, 127}, 1, 1, 0.2},
		{formats.C64, append(le(0x3f80000000000000), le(0x3f800000)...), append(le(0x4000000000000000), le(0x3f800000)...), 1, 1, 0.5},
		{formats.F8E4M3, []byte{0x38, 0x40}, []byte{0x38, 0x38}, 1, 1, 0.2},
		{formats.F8E5M2, []byte{0x3c, 0x80}, []byte{0x3c, 0}, 1, 0, 0},
		{formats.F16, []byte{0, 0x3c, 0, 0x7c}, []byte{0, 0x3c, 0, 0x7c}, 0, 0, 0},
	} {
		info := formats.TensorInfo{Name: "x", DType: c.dt, Shape: []int64{int64(len(c.a) / c.dt.Size())}}
		d := diff(t, writeTensors(t, []formats.Tensor{{TensorInfo: info, Data: c.a}}), writeTensors(t, []formats.Tensor{{TensorInfo: info, Data: c.b}}), nil)
		got := d.found(t, "x")
		if got.Changed != c.changed || *got.MaxError != rounded(c.max) || math.Abs(*got.RelativeError-c.rel) > 1e-4*c.rel || got.Values != info.Shape[0]*parts(c.dt) {
			t.Errorf("%s: %+v, relative error %s, largest %s", c.dt, *got, text(got.RelativeError), text(got.MaxError))
		}
	}
	one := func(dt formats.DType, data []byte) string {
		return writeTensors(t, []formats.Tensor{{TensorInfo: formats.TensorInfo{Name: "x", DType: dt, Shape: []int64{}}, Data: data}})
	}
	f64 := one(formats.F64, le(math.Float64bits(1.5)))
	if d := diff(t, f64, one(formats.BF16, []byte{0xc0, 0x3f}), nil); !d.Equal {
		t.Errorf("F64 and BF16: %+v", d.Tensors[0])
	}
	if d := diff(t, f64, one(formats.I64, le(1)), nil); d.found(t, "x").Status != OtherType {
		t.Errorf("F64 and I64: %+v", d.Tensors[0])
	}
}

// A comparison says the same with any number of threads, of tensors that several workers share too.
func TestDiffThreads(t *testing.T) {
	o := testmodel.Options{Layers: 1, D: 256, H: 4, G: 2, F: 256, V: 20000, DType: formats.BF16, Seed: 40}
	a := write(t, testmodel.New(o))
	b, _ := convert(t, a, GGUF, func(o *Options) { o.Type = "q4_0" })
	var first string
	for _, threads := range []int{1, 7} {
		raw, err := json.Marshal(diff(t, a, b, func(o *DiffOptions) { o.Threads = threads }))
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(raw)
		} else if string(raw) != first {
			t.Errorf("%d threads say something else", threads)
		}
	}
	c, err := checkpoint.Open(a, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pairs := []pair{{a: &end{info: formats.TensorInfo{Shape: []int64{20000, 256}}}}}
	if list, _ := spans(pairs, make([]TensorDifference, 1)); len(list) < 2 {
		t.Errorf("the largest tensor is %d spans", len(list))
	}
}

// Spans cover a tensor once, in whole rows where those are not too long.
func TestSpans(t *testing.T) {
	for _, shape := range [][]int64{{}, {1}, {0, 5}, {5, 0}, {300}, {100000}, {1000, 5001}, {3, 1 << 17}, {1, 1 << 23}, {70, 3, 4096}, {9000000}} {
		list, total := spans([]pair{{a: &end{info: formats.TensorInfo{Shape: shape}}}}, make([]TensorDifference, 1))
		at, row := int64(0), int64(1)
		for i, d := range shape {
			if i > 0 {
				row *= d
			}
		}
		for _, s := range list {
			if s.first != at || s.n <= 0 || s.step > readValues || s.n > spanReads*readValues || row > 0 && row <= readValues && s.step%row != 0 {
				t.Errorf("%v: %+v at %d", shape, s, at)
			}
			at += s.n
		}
		if want, _ := (formats.TensorInfo{Shape: shape}).Elements(); at != want || total != want {
			t.Errorf("%v: %d and %d of %d values", shape, at, total, want)
		}
	}
}

// Comparing takes a few MiB for each worker, whatever the size of the models. What is allocated in all bounds what is held at once.
func TestDiffMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, which runs in the short mode, throws pooled buffers away")
	}
	m := testmodel.New(testmodel.Options{Layers: 2, D: 1024, H: 8, G: 4, F: 2048, V: 4096, DType: formats.BF16, Seed: 41})
	size := int64(0)
	for _, info := range m.Tensors() {
		n, err := info.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		size += n
	}
	a := write(t, m)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d := diff(t, a, a, func(o *DiffOptions) { o.Threads = 3 })
	runtime.ReadMemStats(&after)
	const most = 4*(1<<20) + 2<<20 // four workers, and headers
	if got := int64(after.TotalAlloc - before.TotalAlloc); got > most || size < 5*most || !d.Equal {
		t.Errorf("%d bytes were allocated to compare models of %d", got, size)
	}
}

func TestDiffConfig(t *testing.T) {
	a := `{"a": 1, "b": 1e-5, "c": [1.0, {"x": null}], "d": "text", "e": 9007199254740993, "gone": null, "g": 1.50}`
	b := `{"d": "other", "c": [1, {"x": null}], "b": 0.00001, "a": 1, "e": 9007199254740992, "new": {}, "g": 1.5}`
	got, err := diffConfig([]byte(a), []byte(b))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"key":"d","a":"text","b":"other"},{"key":"e","a":9007199254740993,"b":9007199254740992},{"key":"gone","a":null},{"key":"new","b":{}}]`
	if string(raw) != want {
		t.Errorf("%s, want %s", raw, want)
	}
	if _, err := diffConfig([]byte(a), []byte(`{"a": 1, "a": 2}`)); err == nil {
		t.Error("a key that stands twice was accepted")
	}
}

func FuzzDiffConfig(f *testing.F) {
	f.Add([]byte(`{"a": [1e400, -0, {"b": 1.0}]}`), []byte(`{"a": [1, 0, {"b": 1}]}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if hf.CheckConfig(a, "config.json") != nil || hf.CheckConfig(b, "config.json") != nil {
			return
		}
		there, err := diffConfig(a, b)
		if err != nil {
			t.Fatal(err)
		}
		back, err := diffConfig(b, a)
		if err != nil || len(back) != len(there) {
			t.Errorf("%d keys differ, %d the other way round (%v)", len(there), len(back), err)
		}
		if same, err := diffConfig(a, a); err != nil || len(same) != 0 {
			t.Errorf("differs from itself in %v (%v)", same, err)
		}
	})
}
