package pipeline

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats/planfile"
	"modelpress/internal/testmodel"
)

const resumeRecipe = "calibration: {sequences: 4, holdout: 2, length: 32}\nquantize: {method: gptq, group_size: 32}"

func resumeBench(t *testing.T) (*bench, *planfile.Plan) {
	t.Helper()
	b := newBench(t, testmodel.New(testmodel.Options{Layers: 4, D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 21}), resumeRecipe)
	p, err := b.plan()
	b.check(err)
	return b, p
}

// interrupted applies and cancels the run after a number of parts.
func (b *bench) interrupted(o ApplyOptions, parts int) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.Env.Progress = &quiet{work: "compressing", after: parts, cancel: cancel}
	if _, err := Apply(ctx, o); !errors.Is(err, context.Canceled) {
		b.t.Fatalf("after %d parts: %v", parts, err)
	}
	if _, err := os.Stat(o.Out); !errors.Is(err, os.ErrNotExist) {
		b.t.Fatalf("an interrupted run left an output: %v", err)
	}
}

func (b *bench) sameDirs(a, c string) {
	b.t.Helper()
	list, err := os.ReadDir(a)
	b.check(err)
	other, err := os.ReadDir(c)
	b.check(err)
	if len(list) != len(other) {
		b.t.Errorf("%d files and %d", len(list), len(other))
	}
	for _, f := range list {
		x, err := os.ReadFile(filepath.Join(a, f.Name()))
		b.check(err)
		y, err := os.ReadFile(filepath.Join(c, f.Name()))
		b.check(err)
		if !bytes.Equal(x, y) {
			b.t.Errorf("%s differs", f.Name())
		}
	}
}

// TestResume interrupts an apply after every part, and again after the next one; the result is that of a run in one go.
func TestResume(t *testing.T) {
	b, p := resumeBench(t)
	whole := b.options(p, "whole")
	res, err := Apply(context.Background(), whole)
	b.check(err)
	if res.Resumed || res.Already {
		t.Errorf("resumed %t, already %t", res.Resumed, res.Already)
	}
	for parts := 1; parts <= 5; parts++ {
		o := b.options(p, "resumed")
		b.interrupted(o, parts)
		if parts < 5 {
			b.interrupted(o, parts+1)
		}
		res, err := Apply(context.Background(), o)
		b.check(err)
		if !res.Resumed {
			t.Errorf("after %d parts: not resumed", parts)
		}
		b.sameDirs(whole.Out, o.Out)
		b.check(os.RemoveAll(o.Out))
	}
	if res, err = Apply(context.Background(), whole); err != nil || !res.Already {
		t.Errorf("once more: %+v, %v", res, err)
	}
}

// TestDamagedPartialOutput: what an interrupted run left is checked before it is used.
func TestDamagedPartialOutput(t *testing.T) {
	b, p := resumeBench(t)
	whole := b.options(p, "whole")
	if _, err := Apply(context.Background(), whole); err != nil {
		t.Fatal(err)
	}
	work := func(o ApplyOptions, name string) string { return filepath.Join(o.Out+partialSuffix, "work", name) }
	edit := func(path string, f func([]byte) []byte) {
		raw, err := os.ReadFile(path)
		b.check(err)
		b.check(os.WriteFile(path, f(raw), 0o644))
	}
	for _, c := range []struct {
		name   string
		damage func(o ApplyOptions)
		kind   Kind // 0: the run succeeds with the same bytes
		want   string
	}{
		{"journal with a torn last line", func(o ApplyOptions) {
			edit(work(o, journalName), func(raw []byte) []byte { return append(raw, `{"part":"layer 2","tens`...) })
		}, 0, ""},
		{"journal that lost its last entry", func(o ApplyOptions) {
			edit(work(o, journalName), func(raw []byte) []byte { return raw[:bytes.LastIndexByte(raw[:len(raw)-1], '\n')+1] })
		}, KindGate, "saved states"}, // the states that entered that part are gone by then
		{"journal gone", func(o ApplyOptions) { b.check(os.Remove(work(o, journalName))) }, KindExists, "no journal"},
		{"journal damaged inside", func(o ApplyOptions) {
			edit(work(o, journalName), func(raw []byte) []byte { return append([]byte("x\n"), raw...) })
		}, KindGate, "journal of the partial output is damaged"},
		{"journal without its head", func(o ApplyOptions) {
			edit(work(o, journalName), func(raw []byte) []byte { return raw[bytes.IndexByte(raw, '\n')+1:] })
		}, KindGate, "does not say for which plan"},
		{"journal of another plan", func(o ApplyOptions) {
			edit(work(o, journalName), func(raw []byte) []byte { return bytes.Replace(raw, []byte("sha256:"), []byte("sha256:x"), 1) })
		}, KindExists, "another plan"},
		{"a bit of the states", func(o ApplyOptions) {
			edit(boundaryName(filepath.Dir(work(o, "x")), 2), func(raw []byte) []byte { raw[100] ^= 1; return raw })
		}, KindGate, "saved states that enter layer 2 are damaged"},
		{"states cut off", func(o ApplyOptions) { b.check(os.Truncate(boundaryName(filepath.Dir(work(o, "x")), 2), 64)) }, KindGate, "layer 2 are damaged"},
		{"states gone", func(o ApplyOptions) { b.check(os.Remove(boundaryName(filepath.Dir(work(o, "x")), 2))) }, KindGate, "layer 2 are damaged"},
		{"a bit of a written tensor", func(o ApplyOptions) {
			shard := p.Output.Shards[0]
			edit(filepath.Join(o.Out+partialSuffix, shard.File), func(raw []byte) []byte { raw[shard.HeaderBytes+5] ^= 1; return raw })
		}, KindGate, "on disk is not what was written"},
	} {
		o := b.options(p, "damaged")
		b.check(os.RemoveAll(o.Out + partialSuffix))
		b.interrupted(o, 3) // prologue, layers 0 and 1
		c.damage(o)
		_, err := Apply(context.Background(), o)
		if KindOf(err) != c.kind || err != nil && !strings.Contains(err.Error(), c.want) || c.kind == 0 && err != nil {
			t.Errorf("%s: %v, want kind %d with %q", c.name, err, c.kind, c.want)
		}
		if err == nil {
			b.sameDirs(whole.Out, o.Out)
		} else if _, serr := os.Stat(o.Out); serr == nil {
			t.Errorf("%s: there is an output", c.name)
		}
		b.check(os.RemoveAll(o.Out))
	}
}

// TestSourceChangesDuringApply: a checkpoint that changes while it is read gives no result.
func TestSourceChangesDuringApply(t *testing.T) {
	b, p := resumeBench(t)
	o := b.options(p, "out")
	o.Env.Progress = &onStep{work: "compressing", at: 2, do: func() {
		path := filepath.Join(b.src, "generation_config.json")
		raw, err := os.ReadFile(path)
		b.check(err)
		b.check(os.WriteFile(path, append(raw, '\n'), 0o644))
	}}
	_, err := Apply(context.Background(), o)
	if err == nil || !strings.Contains(err.Error(), "generation_config.json") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(o.Out); err == nil {
		t.Error("there is an output")
	}
}

// onStep does something once during one kind of work.
type onStep struct {
	work, now string
	at        int
	do        func()
}

func (s *onStep) Start(name string, _ int64) { s.now = name }
func (s *onStep) Done()                      {}
func (s *onStep) Add(n int64) {
	if s.now != s.work {
		return
	}
	if s.at -= int(n); s.at == 0 {
		s.do()
	}
}

func TestCheckDrift(t *testing.T) {
	base := func() planfile.Source {
		return planfile.Source{ConfigDigest: "c", Files: []planfile.File{{Name: "a.json", SHA256: "1"}, {Name: "b.json", SHA256: "2"}},
			Tensors: []planfile.Tensor{{Name: "t", DType: "F32", Shape: []int64{2}, SHA256: "3"}, {Name: "u", DType: "F32", Shape: []int64{2}, SHA256: "4"}}}
	}
	for _, c := range []struct {
		name string
		edit func(*planfile.Source)
		want []string
	}{
		{"nothing", func(*planfile.Source) {}, nil},
		{"config", func(s *planfile.Source) { s.ConfigDigest = "d" }, []string{"config.json changed"}},
		{"file changed", func(s *planfile.Source) { s.Files[1].SHA256 = "9" }, []string{"file b.json changed"}},
		{"file gone", func(s *planfile.Source) { s.Files = s.Files[:1] }, []string{"file b.json is missing"}},
		{"file new", func(s *planfile.Source) { s.Files = append(s.Files, planfile.File{Name: "c.json"}) }, []string{"file c.json is new"}},
		{"tensor data", func(s *planfile.Source) { s.Tensors[0].SHA256 = "9" }, []string{"tensor t changed"}},
		{"tensor dtype", func(s *planfile.Source) { s.Tensors[0].DType = "BF16" }, []string{"tensor t changed"}},
		{"tensor shape", func(s *planfile.Source) { s.Tensors[0].Shape = []int64{1, 2} }, []string{"tensor t changed"}},
		{"tensor renamed", func(s *planfile.Source) { s.Tensors[1].Name = "w" }, []string{"tensor u is missing", "tensor w is new"}},
		{"all at once", func(s *planfile.Source) { s.ConfigDigest, s.Files, s.Tensors = "d", nil, nil },
			[]string{"config.json changed", "file a.json is missing", "file b.json is missing", "tensor t is missing", "tensor u is missing"}},
		{"very much", func(s *planfile.Source) {
			for i := range 20 {
				s.Tensors = append(s.Tensors, planfile.Tensor{Name: "x" + string(rune('a'+i))})
			}
		}, []string{"and 12 more"}},
	} {
		have := base()
		c.edit(&have)
		err := checkDrift(base(), have)
		if (err == nil) != (c.want == nil) || err != nil && KindOf(err) != KindStale {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v lacks %q", c.name, err, w)
			}
		}
	}
}
