package pipeline

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/planfile"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// quiet is progress that nobody sees; it cancels a run after a number of steps of one kind of work.
type quiet struct {
	work   string
	after  int
	cancel context.CancelFunc
	now    string
}

func (q *quiet) Start(name string, _ int64) { q.now = name }
func (q *quiet) Done()                      {}
func (q *quiet) Add(n int64) {
	if q.cancel == nil || q.now != q.work {
		return
	}
	if q.after -= int(n); q.after <= 0 {
		q.cancel()
	}
}

func testEnv() Env { return threads(2) }

func threads(n int) Env {
	return Env{Device: cpu.New(n), Progress: &quiet{}, Warn: func(string, ...any) {}}
}

// bench is a checkpoint on disk with calibration data.
type bench struct {
	t              *testing.T
	dir, src, data string
	recipe         string
	anywhere       bool      // no target has a say
	more           DataPaths // besides data
}

// newBench writes a checkpoint and 16 windows of 32 random tokens.
func newBench(t *testing.T, m *testmodel.Model, recipe string) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t, dir: dir, src: filepath.Join(dir, "src"), data: filepath.Join(dir, "calib.npy"), recipe: recipe}
	b.check(os.Mkdir(b.src, 0o755))
	b.check(m.Write(b.src, 0))
	b.check(os.WriteFile(b.data, npy(testmodel.Windows(16, 32, m.Options.V, 11)), 0o644))
	return b
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// npy returns rows of equal length as a .npy file of int32.
func npy(rows [][]int32) []byte {
	header := fmt.Sprintf("{'descr': '<i4', 'fortran_order': False, 'shape': (%d, %d), }", len(rows), len(rows[0]))
	const prefix = 10 // magic, version, header length
	header += strings.Repeat(" ", 63-(prefix+len(header))%64) + "\n"
	out := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), byte(len(header)>>8))
	out = append(out, header...)
	for _, r := range rows {
		for _, v := range r {
			out = binary.LittleEndian.AppendUint32(out, uint32(v))
		}
	}
	return out
}

func (b *bench) plan() (*planfile.Plan, error) { return b.planOn(2) }

func (b *bench) planOn(n int) (*planfile.Plan, error) {
	r, err := ParseRecipe([]byte(b.recipe))
	b.check(err)
	if b.anywhere {
		r.Target = []string{}
	}
	return Plan(context.Background(), PlanOptions{ModelDir: b.src, Recipe: r, RecipeDigest: sumDigest([]byte(b.recipe)),
		Data: b.paths(), Tool: planfile.Tool{Name: "test", Version: "0"}, Env: threads(n)})
}

// paths is the data of recipes that say how to cut it.
func (b *bench) paths() DataPaths {
	if !strings.Contains(b.recipe, "calibration:") {
		return DataPaths{}
	}
	paths := b.more
	paths.Calib = b.data
	return paths
}

// options are those of an apply of the plan to a directory below the bench's.
func (b *bench) options(p *planfile.Plan, out string) ApplyOptions {
	raw, err := planfile.Encode(p)
	b.check(err)
	return ApplyOptions{Plan: p, PlanBytes: raw, ModelDir: b.src, Out: filepath.Join(b.dir, out), Data: b.paths(), Env: testEnv()}
}

// run plans and applies, and returns the plan, the report and the result's directory.
func (b *bench) run() (*planfile.Plan, *Report, string) {
	b.t.Helper()
	p, err := b.plan()
	b.check(err)
	o := b.options(p, "out")
	res, err := Apply(context.Background(), o)
	b.check(err)
	return p, res.Report, o.Out
}

func (b *bench) open(dir string) *source {
	b.t.Helper()
	s, err := openSource(dir, false)
	b.check(err)
	b.t.Cleanup(func() { s.close() })
	return s
}

func tensorBytes(t *testing.T, src formats.Source, info formats.TensorInfo) []byte {
	t.Helper()
	n, err := info.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, n)
	if err := src.ReadAt(info.Name, p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

func float32s(t *testing.T, src formats.Source, name string) []float32 {
	t.Helper()
	info, ok := src.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	n, err := info.Elements()
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, n)
	if err := formats.ReadF32(src, name, v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}

// logitError is ‖a-b‖/‖a‖ over the logits of two checkpoints for a few tokens.
func (b *bench) logitError(dirA, dirB string) float64 {
	b.t.Helper()
	var logits [2][]float32
	for i, dir := range []string{dirA, dirB} {
		s := b.open(dir)
		var err error
		logits[i], err = s.model(testEnv().Device).Logits(testmodel.Windows(1, 24, s.arch.V, 99)[0])
		b.check(err)
	}
	var num, den float64
	for i, v := range logits[0] {
		d := float64(v) - float64(logits[1][i])
		num += d * d
		den += float64(v) * float64(v)
	}
	return math.Sqrt(num / den)
}

// sameTensors checks that a result holds a tensor of the source with its very bytes, for all but those named.
func (b *bench) sameTensors(out string, except func(name string) bool) (kept int) {
	b.t.Helper()
	from, err := hf.Open(b.src)
	b.check(err)
	defer from.Close()
	to, err := hf.Open(out)
	b.check(err)
	defer to.Close()
	for _, info := range from.Tensors() {
		if except(info.Name) {
			continue
		}
		have, ok := to.Lookup(info.Name)
		if !ok || have.DType != info.DType || fmt.Sprint(have.Shape) != fmt.Sprint(info.Shape) {
			b.t.Errorf("%s: %v, want %v", info.Name, have, info)
			continue
		}
		if !bytes.Equal(tensorBytes(b.t, from, info), tensorBytes(b.t, to, have)) {
			b.t.Errorf("%s: other bytes", info.Name)
		}
		kept++
	}
	return kept
}

func none(string) bool { return false }

// TestIdentityOfHeads: a plan for heads alone leaves every tensor of every family as it is, byte for byte.
func TestIdentityOfHeads(t *testing.T) {
	for _, c := range testmodel.Cases() {
		m := testmodel.New(c.Options)
		b := newBench(t, m, "calibration: {sequences: 2, holdout: 1, length: 32}\nheads: {method: projected_error, full_share: 1, sink: 2, recent: 8}")
		if c.Name == "llama-pruned" {
			if _, err := b.plan(); KindOf(err) != KindUsage {
				t.Errorf("%s: %v", c.Name, err)
			}
			continue
		}
		p, rep, out := b.run()
		if kept := b.sameTensors(out, none); kept != len(m.Tensors()) || p.Output.TensorBytes != rep.BytesAfter || rep.BytesBefore != rep.BytesAfter {
			t.Errorf("%s: %d of %d tensors kept, %d bytes of %d", c.Name, kept, len(m.Tensors()), rep.BytesAfter, rep.BytesBefore)
		}
		if e := b.logitError(b.src, out); e != 0 {
			t.Errorf("%s: logits differ by %g", c.Name, e)
		}
	}
}

// TestIdentityOfIgnored: with all modules but one ignored, every other tensor stays as it is.
func TestIdentityOfIgnored(t *testing.T) {
	const module = "model.layers.1.mlp.up_proj"
	for _, method := range []string{"rtn", "gptq"} {
		recipe := "calibration: {sequences: 4, holdout: 0, length: 32}\nquantize:\n  method: " + method +
			"\n  group_size: 32\n  ignore: [lm_head, 're:model.layers.0.', 're:.*(self_attn|gate_proj|down_proj)']"
		b := newBench(t, testmodel.Named("llama-gqa"), recipe)
		p, _, out := b.run()
		kept := b.sameTensors(out, func(name string) bool { return name == module+".weight" })
		if kept != len(p.Source.Tensors)-1 {
			t.Errorf("%s: %d tensors kept of %d", method, kept, len(p.Source.Tensors))
		}
		src, dense := b.open(b.src), b.open(out)
		a, q := float32s(t, src.dense, module+".weight"), float32s(t, dense.dense, module+".weight")
		if e := relativeError(a, q); e == 0 || e > 0.02 {
			t.Errorf("%s: relative error %g of the one matrix", method, e)
		}
	}
}

// TestEveryFamily runs each method on each family and compares the logits with the source's.
func TestEveryFamily(t *testing.T) {
	const most = 0.03 // 8 bits in groups of 32 on random weights
	for _, c := range testmodel.Cases() {
		if c.Name == "llama-pruned" || c.Name == "gpt2" {
			continue // not of uniform layers; not packed: TestConv1D
		}
		for _, method := range []string{"rtn", "gptq", "rsq"} {
			t.Run(c.Name+"/"+method, func(t *testing.T) {
				t.Parallel()
				recipe := "seed: 7\ncalibration: {sequences: 6, holdout: 2, length: 32}\nquantize: {method: " + method + ", bits: 8, group_size: 32}"
				b := newBench(t, testmodel.New(c.Options), recipe)
				p, rep, out := b.run()
				e := b.logitError(b.src, out)
				t.Logf("relative logit error %.5f", e)
				if e == 0 || e > most {
					t.Errorf("relative logit error %g", e)
				}
				if len(rep.FellBack) > 0 || rep.Quality == nil || rep.Quality.Source == nil {
					t.Errorf("fell back %v, quality %v", rep.FellBack, rep.Quality)
				}
				checkSizes(t, p, out)
			})
		}
	}
}

// checkSizes compares the planned layout with the files on disk: names, sizes, and every tensor's place.
func checkSizes(t *testing.T, p *planfile.Plan, out string) {
	t.Helper()
	ck, err := hf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	planned := map[string]bool{}
	var total, tensors int64
	for _, s := range p.Output.Shards {
		planned[s.File] = true
		raw, err := os.ReadFile(filepath.Join(out, s.File))
		if err != nil {
			t.Fatal(err)
		}
		if header := int64(binary.LittleEndian.Uint64(raw)) + 8; int64(len(raw)) != s.Bytes || header != s.HeaderBytes {
			t.Errorf("%s: %d bytes with a header of %d, planned %d and %d", s.File, len(raw), header, s.Bytes, s.HeaderBytes)
		}
		total += int64(len(raw))
		for _, x := range s.Tensors {
			info, ok := ck.Lookup(x.Name)
			if !ok || info.DType.String() != x.DType || fmt.Sprint(info.Shape) != fmt.Sprint(x.Shape) || ck.Shard(x.Name) != s.File {
				t.Fatalf("%s: %v in %s, planned %+v in %s", x.Name, info, ck.Shard(x.Name), x, s.File)
			}
			at := s.HeaderBytes + x.Offset
			if !bytes.Equal(raw[at:at+x.Bytes], tensorBytes(t, ck, info)) {
				t.Errorf("%s lies elsewhere than planned", x.Name)
			}
			tensors += x.Bytes
		}
	}
	if total != p.Output.FileBytes || tensors != p.Output.TensorBytes {
		t.Errorf("%d bytes, %d of tensors; planned %d and %d", total, tensors, p.Output.FileBytes, p.Output.TensorBytes)
	}
	for _, f := range p.Output.Files {
		planned[f.Name] = true
	}
	list, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if !planned[f.Name()] {
			t.Errorf("%s was not planned", f.Name())
		}
		delete(planned, f.Name())
	}
	for name := range planned {
		t.Errorf("%s is missing", name)
	}
}

// TestShards: many shards are laid out and indexed as planned.
func TestShards(t *testing.T) {
	b := newBench(t, testmodel.New(testmodel.Options{D: 128, H: 4, G: 2, F: 512, V: 3000, Seed: 3}),
		"quantize: {method: rtn, group_size: 64}\noutput: {max_shard_bytes: 1048576}")
	p, _, out := b.run()
	if n := len(p.Output.Shards); n < 3 {
		t.Errorf("%d shards", n)
	}
	checkSizes(t, p, out)
	if _, err := os.Stat(filepath.Join(out, indexName)); err != nil {
		t.Error(err)
	}
}

// TestConv1D: GPT-2's fused and transposed projections, quantized to 3 bits and written as plain weights.
func TestConv1D(t *testing.T) {
	for _, c := range []struct {
		quantize string
		most     float64
	}{
		{"method: rtn, bits: 3, group_size: 32", 0.5}, {"method: gptq, bits: 3, group_size: 32", 0.5},
		{"method: rsq, bits: 3, group_size: 32, rotate: none", 0.5}, {"method: gptq, bits: 2, group_size: 32", 0.9},
		{"method: rtn, bits: 3, group_size: -1, ignore: ['re:.*c_fc']", 0.5},
	} {
		b := newBench(t, testmodel.Named("gpt2"), "calibration: {sequences: 8, holdout: 2, length: 32}\nquantize: {"+c.quantize+"}")
		p, rep, out := b.run()
		e := b.logitError(b.src, out)
		t.Logf("%s: relative logit error %.4f", c.quantize, e)
		if e == 0 || e > c.most {
			t.Errorf("%s: relative logit error %g", c.quantize, e)
		}
		checkSizes(t, p, out)
		if rep.BytesAfter != rep.BytesBefore || p.Output.Quantization != "" {
			t.Errorf("%s: %d bytes became %d, %q", c.quantize, rep.BytesBefore, rep.BytesAfter, p.Output.Quantization)
		}
		config, err := os.ReadFile(filepath.Join(out, configName))
		b.check(err)
		if want, err := os.ReadFile(filepath.Join(b.src, configName)); err != nil || !bytes.Equal(config, want) {
			t.Errorf("%s: config.json changed (%v)", c.quantize, err)
		}
		changed := map[string]bool{}
		for _, ch := range p.Changes {
			changed[ch.Tensor] = ch.Reason == reasonDequant
		}
		b.sameTensors(out, func(name string) bool { return changed[name] })
		if !changed["transformer.h.0.attn.c_attn.weight"] || changed["transformer.h.0.attn.c_attn.bias"] || changed["transformer.wte.weight"] {
			t.Errorf("%s: %v", c.quantize, changed)
		}
	}
}

// TestTiedHead: a rotation writes the output head of a tied model out, and the result loads untied; without one it stays tied.
func TestTiedHead(t *testing.T) {
	for _, c := range []struct {
		rotate string
		tied   bool
	}{{"none", true}, {"hadamard", false}, {"qr", false}} {
		for _, name := range []string{"llama-mqa-tied", "qwen3-tied"} {
			b := newBench(t, testmodel.Named(name), "quantize: {method: rtn, bits: 8, group_size: 32, rotate: "+c.rotate+"}")
			p, _, out := b.run()
			s := b.open(out)
			if _, stored := s.ck.Lookup("lm_head.weight"); s.arch.Tied != c.tied || stored == c.tied {
				t.Errorf("%s rotated by %s: tied %t, head stored %t", name, c.rotate, s.arch.Tied, stored)
			}
			var config struct {
				Tied bool `json:"tie_word_embeddings"`
			}
			b.check(json.Unmarshal(s.ck.Config(), &config))
			if config.Tied != c.tied {
				t.Errorf("%s rotated by %s: config says tied %t", name, c.rotate, config.Tied)
			}
			if e := b.logitError(b.src, out); e > 0.03 {
				t.Errorf("%s rotated by %s: relative logit error %g", name, c.rotate, e)
			}
			checkSizes(t, p, out)
		}
	}
}
