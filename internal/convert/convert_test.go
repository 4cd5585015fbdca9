package convert

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/checkpoint"
	"modelpress/internal/device/cpu"
	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// quiet is a Progress that shows nothing.
type quiet struct{}

func (quiet) Start(string, int64) {}
func (quiet) Add(int64)           {}
func (quiet) Done()               {}

// options are those that every test shares.
func options(model, format, out string) Options {
	return Options{Model: model, Format: format, Out: out, Threads: 2, Tool: planfile.Tool{Name: "test", Version: "1"},
		Env: pipeline.Env{Device: cpu.New(2), Progress: quiet{}}}
}

// write puts a model into a directory.
func write(t *testing.T, m *testmodel.Model) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src")
	if err := errors.Join(os.Mkdir(dir, 0o755), m.Write(dir, 1<<20)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// convert runs a conversion that must work and returns where the result is.
func convert(t *testing.T, model, format string, change func(o *Options)) (string, *Result) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if format == GGUF {
		out += ".gguf"
	}
	o := options(model, format, out)
	if change != nil {
		change(&o)
	}
	r, err := Convert(t.Context(), o)
	if err != nil {
		t.Fatalf("%s to %s: %v", filepath.Base(model), format, err)
	}
	return out, r
}

// values reads every tensor of a model as float32.
func values(t *testing.T, path string) map[string][]float32 {
	t.Helper()
	c, err := checkpoint.Open(path, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all := map[string][]float32{}
	for _, info := range c.Dense.Tensors() {
		n, err := info.Elements()
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, n)
		if err := formats.ReadF32(c.Dense, info.Name, v, 0); err != nil {
			t.Fatal(err)
		}
		all[info.Name] = v
	}
	return all
}

func same(t *testing.T, what string, a, b map[string][]float32) {
	t.Helper()
	if len(a) != len(b) {
		t.Errorf("%s: %d tensors became %d", what, len(a), len(b))
	}
	for name, v := range a {
		if !slices.Equal(v, b[name]) {
			t.Errorf("%s: tensor %q changed", what, name)
		}
	}
}

// quantizable are models of the families whose modules have names, of sizes that every format takes.
func quantizable() []testmodel.Case {
	var list []testmodel.Case
	for _, family := range []string{"llama", "mistral", "qwen2", "qwen3"} {
		list = append(list, testmodel.Case{Name: family, Options: testmodel.Options{Family: family, D: 64, H: 4, G: 2, K: 16, F: 96, Eps: 1e-6, Seed: 21}})
	}
	list = append(list, testmodel.Case{Name: "tied", Options: testmodel.Options{D: 64, H: 4, G: 2, F: 96, Tied: true, Seed: 22}})
	return append(list, testmodel.Case{Name: "bias", Options: testmodel.Options{D: 64, H: 4, G: 2, F: 96, Bias: true, Seed: 23}})
}

// Codes go from format to format and come back the same, in every family.
func TestCodesCarryOver(t *testing.T) {
	for _, c := range quantizable() {
		for _, asymmetric := range []bool{false, true} {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel() // it waits for the disk more than it computes
				src := write(t, testmodel.New(c.Options))
				ct, _ := convert(t, src, Packed, func(o *Options) {
					o.Bits, o.Group, o.DType, o.Asymmetric = 4, 32, "f16", asymmetric
				})
				want, _ := convert(t, ct, Safetensors, func(o *Options) { o.DType = "f32" })
				at := ct
				for _, format := range []string{GPTQv2, AWQ, Packed, AWQ, GPTQv2, Packed} {
					next, r := convert(t, at, format, func(o *Options) { o.Lossless = true })
					if r.Proof == nil || r.Proof.Weights == 0 {
						t.Fatalf("%s to %s: proof %+v", at, format, r.Proof)
					}
					at = next
					back, _ := convert(t, at, Safetensors, func(o *Options) { o.DType = "f32" })
					if format != Packed { // whose own reader rounds to F16
						same(t, format, values(t, at), values(t, back))
					}
				}
				back, _ := convert(t, at, Safetensors, func(o *Options) { o.DType = "f32" })
				same(t, "all formats", values(t, want), values(t, back))
			})
		}
	}
}

// A GGUF file of F32 holds every value of every family, and so do its blocks those of symmetric codes.
func TestGGUFHoldsEveryFamily(t *testing.T) {
	for _, c := range testmodel.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			src := write(t, testmodel.New(c.Options))
			out := filepath.Join(t.TempDir(), "out.gguf")
			o := options(src, GGUF, out)
			o.Type, o.Lossless = "f32", true
			if _, err := Convert(t.Context(), o); err != nil {
				// llama.cpp would load a layer without FFN and leave out its attention.
				if c.Name == "llama-pruned" && strings.Contains(err.Error(), "llama.cpp: ") {
					return
				}
				t.Fatal(err)
			}
			back, _ := convert(t, out, Safetensors, nil)
			want := values(t, src)
			for name := range want { // a stored copy of a tied head
				if c.Options.Tied && name == "lm_head.weight" {
					delete(want, name)
				}
			}
			same(t, "F32", want, values(t, back))
		})
	}
}

func TestCodesCarryOverToBlocks(t *testing.T) {
	for _, bits := range []int{4, 8} {
		for _, group := range []int{32, 64, -1} {
			src := write(t, testmodel.Named("llama-gqa"))
			ct, _ := convert(t, src, Packed, func(o *Options) {
				o.Bits, o.Group, o.DType, o.Asymmetric = bits, group, "f16", bits == 4 && group == 64
			})
			out, r := convert(t, ct, GGUF, func(o *Options) { o.Lossless = true })
			if r.Proof == nil {
				t.Fatalf("%d bits, groups of %d: proof %+v", bits, group, r.Proof)
			}
			back, _ := convert(t, out, Packed, func(o *Options) { o.Lossless = true }) // five bits go into eight
			a, _ := convert(t, ct, Safetensors, func(o *Options) { o.DType = "f32" })
			b, _ := convert(t, back, Safetensors, func(o *Options) { o.DType = "f32" })
			same(t, "through blocks", values(t, a), values(t, b))
		}
	}
}

// Every scheme and type leaves an error that fits its bits, which a reader of the result sees too.
func TestErrorsFitTheBits(t *testing.T) {
	src := write(t, testmodel.New(testmodel.Options{D: 256, F: 512, H: 8, G: 4, V: 512, Seed: 3}))
	want := values(t, src)
	for _, c := range []struct {
		format, scheme string
		most           float64
	}{
		{Packed, "w4a16", 1.2e-2}, {Packed, "w4a16-asym", 1.2e-2}, {Packed, "w8a16", 5e-5}, {Packed, "w8a8", 1e-4}, {Packed, "fp8", 1.2e-3},
		{Packed, "fp8-dynamic", 1e-3}, {Packed, "fp8-block", 1e-3}, {Packed, "nvfp4", 1.2e-2}, {Packed, "mxfp4", 2e-2},
		{GGUF, "q8_0", 4e-5}, {GGUF, "q4_0", 1e-2}, {GGUF, "q4_1", 8e-3}, {GGUF, "q5_0", 2e-3}, {GGUF, "q5_1", 2e-3}, {GGUF, "q4_k_m", 7e-3}, {GGUF, "q5_k_m", 2e-3},
		{GGUF, "q6_k", 5e-4}, {GGUF, "f16", 1e-7}, {GGUF, "bf16", 1e-5},
	} {
		out, r := convert(t, src, c.format, func(o *Options) {
			o.Prove = true
			if c.format == GGUF {
				o.Type = c.scheme
			} else {
				o.Scheme = c.scheme
			}
		})
		got := values(t, out)
		for _, n := range r.Tensors {
			if n.How != Requantized && n.How != Cast {
				continue
			}
			var sum errorSum
			sum.add(want[n.Tensor], got[n.Tensor])
			var seen Note
			sum.into(&seen)
			if seen.RelativeError > c.most || seen.RelativeError != n.RelativeError || seen.MaxError != n.MaxError || seen.Changed != n.Changed {
				t.Errorf("%s %s: %s has relative error %g, noted %g (largest %g, noted %g)", c.format, c.scheme, n.Tensor, seen.RelativeError, n.RelativeError, seen.MaxError, n.MaxError)
			}
		}
	}
}

// A conversion that changes nothing leaves every byte.
func TestSameIsTheIdentity(t *testing.T) {
	m := testmodel.Named("qwen2")
	src := write(t, m)
	for _, shard := range []int64{0, 1 << 20} {
		out, r := convert(t, src, Same, func(o *Options) { o.MaxShardBytes = shard })
		same(t, "same", values(t, src), values(t, out))
		for _, n := range r.Tensors {
			if n.How != Copied {
				t.Errorf("%s was %s", n.Tensor, n.How)
			}
		}
	}
	renamed, _ := convert(t, src, Same, func(o *Options) { o.Rename = []string{`^model\.(.*)=net.$1`} })
	c, err := checkpoint.Open(renamed, checkpoint.Options{AnyModel: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.Lookup("net.embed_tokens.weight"); !ok || c.Arch != nil {
		t.Error("the tensors keep their names")
	}
	back, _ := convert(t, renamed, Safetensors, func(o *Options) { o.Rename = []string{`^net\.=model.`} })
	same(t, "renamed and back", values(t, src), values(t, back))
}

// The bytes of a result do not depend on threads.
func TestThreads(t *testing.T) {
	src := write(t, testmodel.Named("llama-gqa"))
	for _, format := range []string{Packed, GGUF} {
		var first []byte
		for _, threads := range []int{1, 5} {
			out, _ := convert(t, src, format, func(o *Options) {
				o.Threads = threads
				if format == GGUF {
					o.Type = "q4_k_m"
				} else {
					o.Scheme = "nvfp4"
				}
			})
			path := out
			if format == Packed {
				path = filepath.Join(out, "report.json")
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = raw
			} else if !slices.Equal(first, raw) {
				t.Errorf("%s: other bytes with %d threads", format, threads)
			}
		}
	}
}

// What fails or is interrupted leaves nothing.
func TestNothingIsLeft(t *testing.T) {
	bad := testmodel.Named("llama-gqa")
	v, err := bad.Values("model.layers.1.mlp.up_proj.weight")
	if err != nil {
		t.Fatal(err)
	}
	v[17] = 1e20
	bad.Set("model.layers.1.mlp.up_proj.weight", v)
	big := write(t, bad)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		what   string
		ctx    context.Context
		change func(o *Options)
		want   string
	}{
		{"a value past F16", t.Context(), func(o *Options) { o.Format, o.DType = Safetensors, "f16" }, "model.layers.1.mlp.up_proj.weight"},
		{"a value past F16 in GGUF", t.Context(), func(o *Options) { o.Format, o.Type = GGUF, "f16" }, "model.layers.1.mlp.up_proj.weight"},
		{"lossless", t.Context(), func(o *Options) { o.Format, o.Scheme, o.Lossless = Packed, "w8a8", true }, "would change"},
		{"interrupted", gone, func(o *Options) { o.Format, o.DType = Safetensors, "f32" }, "canceled"},
		{"interrupted GGUF", gone, func(o *Options) { o.Format, o.Type = GGUF, "f32" }, "canceled"},
	} {
		dir := t.TempDir()
		o := options(big, "", filepath.Join(dir, "out"))
		c.change(&o)
		_, err := Convert(c.ctx, o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", c.what, err)
		}
		if list, _ := os.ReadDir(dir); len(list) > 0 {
			t.Errorf("%s left %v", c.what, list)
		}
	}
}

// What an interrupted conversion left is replaced; what another command left is not touched.
func TestPartialOutput(t *testing.T) {
	src := write(t, testmodel.Named("llama-gqa"))
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	d, err := pipeline.CreateOutputDir(src, out)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Dir(), "model.safetensors"), []byte("left over"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Convert(t.Context(), options(src, Same, out)); pipeline.KindOf(err) != pipeline.KindExists {
		t.Errorf("while another run writes: %v", err)
	}
	d.Abandon()
	if _, err := Convert(t.Context(), options(src, Same, out)); err != nil {
		t.Errorf("after an interrupted run: %v", err)
	}
	other := filepath.Join(dir, "other")
	work := filepath.Join(other+".partial", "work")
	if err := errors.Join(os.MkdirAll(work, 0o755), os.WriteFile(filepath.Join(work, "journal"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := Convert(t.Context(), options(src, Same, other)); pipeline.KindOf(err) != pipeline.KindExists {
		t.Errorf("beside another command's output: %v", err)
	}
}

// Of several that write to one place, one does.
func TestOnePlace(t *testing.T) {
	src := write(t, testmodel.Named("llama-gqa"))
	for _, format := range []string{Safetensors, GGUF} {
		out := filepath.Join(t.TempDir(), "out")
		const n = 6
		errs := make(chan error, n)
		for range n {
			go func() {
				_, err := Convert(t.Context(), options(src, format, out))
				errs <- err
			}()
		}
		done := 0
		for range n {
			switch err := <-errs; {
			case err == nil:
				done++
			case pipeline.KindOf(err) != pipeline.KindExists:
				t.Errorf("%s: %v", format, err)
			}
		}
		if done != 1 {
			t.Errorf("%s: %d were written", format, done)
		}
		same(t, format, values(t, src), values(t, out))
		if list, _ := os.ReadDir(filepath.Dir(out)); len(list) != 1 {
			t.Errorf("%s left %v", format, list)
		}
	}
}

// Projections that runtimes fuse have one scale of the whole tensor.
func TestFusedProjectionsShareScales(t *testing.T) {
	m := testmodel.New(testmodel.Options{D: 128, F: 256, H: 4, G: 2, Seed: 8})
	for _, name := range []string{"self_attn.v_proj", "mlp.up_proj"} {
		v, err := m.Values("model.layers.0." + name + ".weight")
		if err != nil {
			t.Fatal(err)
		}
		v[5] = 3
		m.Set("model.layers.0."+name+".weight", v)
	}
	src := write(t, m)
	for scheme, suffix := range map[string]string{"fp8": ".weight_scale", "nvfp4": ".weight_global_scale"} {
		out, _ := convert(t, src, Packed, func(o *Options) { o.Scheme = scheme })
		c, err := checkpoint.Open(out, checkpoint.Options{})
		if err != nil {
			t.Fatal(err)
		}
		read := func(module string) float32 {
			var v [1]float32
			if err := formats.ReadF32(c.Store, "model.layers.0."+module+suffix, v[:], 0); err != nil {
				t.Fatal(err)
			}
			return v[0]
		}
		if a, b := read("self_attn.q_proj"), read("self_attn.v_proj"); a != b || a == read("self_attn.o_proj") {
			t.Errorf("%s: scales %v and %v of q and v", scheme, a, b)
		}
		if a, b := read("mlp.gate_proj"), read("mlp.up_proj"); a != b {
			t.Errorf("%s: scales %v and %v of gate and up", scheme, a, b)
		}
		c.Close()
	}
}
