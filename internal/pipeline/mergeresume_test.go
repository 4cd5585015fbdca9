package pipeline

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/testmodel"
)

const mergeResumeRecipe = "calibration: {sequences: 4, holdout: 2, length: 32}\nkvmerge: {kv_heads: 2}\nquantize: {method: gptq, bits: 8, group_size: 32, rotate: hadamard}"

func mergeBench(t *testing.T) (*bench, *planfile.Plan) {
	t.Helper()
	b := newBench(t, testmodel.New(mergeOptions(formats.F32)), mergeResumeRecipe)
	p, err := b.plan()
	b.check(err)
	return b, p
}

// stopped applies and cancels the run after so many steps of one kind of work.
func (b *bench) stopped(o ApplyOptions, work string, after int) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.Env.Progress = &quiet{work: work, after: after, cancel: cancel}
	if _, err := Apply(ctx, o); !errors.Is(err, context.Canceled) {
		b.t.Fatalf("%s stopped after %d: %v", work, after, err)
	}
	if _, err := os.Stat(o.Out); !errors.Is(err, os.ErrNotExist) {
		b.t.Fatalf("an interrupted run left an output: %v", err)
	}
}

// TestMergeResume interrupts an apply after every layer that is merged and after every part that is written; the result is that of a
// run in one go, and layers that were merged are not merged again.
func TestMergeResume(t *testing.T) {
	b, p := mergeBench(t)
	whole := b.options(p, "whole")
	_, err := Apply(context.Background(), whole)
	b.check(err)
	for _, stop := range []struct {
		work  string
		after []int
		left  int64 // layers to merge when it goes on
	}{
		{"merging kv heads", []int{4}, 2}, {"merging kv heads", []int{8}, 1}, {"merging kv heads", []int{12}, 0}, // of 4 windows each
		{"merging kv heads", []int{1}, 3}, {"merging kv heads", []int{6}, 2}, {"merging kv heads", []int{4, 8}, 1}, {"merging kv heads", []int{5, 9}, 1},
		{"compressing", []int{1}, 0}, {"compressing", []int{2}, 0}, {"compressing", []int{3, 4}, 0}, {"compressing", []int{5}, 0},
	} {
		o := b.options(p, "resumed")
		for _, n := range stop.after {
			b.stopped(o, stop.work, n)
		}
		count := &mergeCount{}
		o.Env.Progress = count
		res, err := Apply(context.Background(), o)
		b.check(err)
		if res.Resumed == (stop.left == 3) || count.merged != 4*stop.left {
			t.Errorf("%s stopped after %v: resumed %t, %d windows merged, want %d", stop.work, stop.after, res.Resumed, count.merged, 4*stop.left)
		}
		b.sameDirs(whole.Out, o.Out)
		b.check(os.RemoveAll(o.Out))
	}
}

// mergeCount counts the windows of the layers that are merged in a run.
type mergeCount struct {
	now    string
	first  bool // the next step is what earlier runs merged
	merged int64
}

func (c *mergeCount) Start(name string, _ int64) { c.now, c.first = name, true }
func (c *mergeCount) Done()                      {}
func (c *mergeCount) Add(n int64) {
	if c.now == "merging kv heads" && !c.first {
		c.merged += n
	}
	c.first = false
}

// TestMergeDamagedPartialOutput: maps and states of an interrupted run are checked before they are used.
func TestMergeDamagedPartialOutput(t *testing.T) {
	b, p := mergeBench(t)
	whole := b.options(p, "whole")
	_, err := Apply(context.Background(), whole)
	b.check(err)
	edit := func(path string, f func([]byte) []byte) {
		raw, err := os.ReadFile(path)
		b.check(err)
		b.check(os.WriteFile(path, f(raw), 0o644))
	}
	flip := func(raw []byte) []byte { raw[100] ^= 1; return raw }
	for _, c := range []struct {
		name   string
		work   string // stopped in
		damage func(work string)
		kind   Kind // 0: the run succeeds with the same bytes
		want   string
	}{
		{"nothing", "merging kv heads", func(string) {}, 0, ""},
		{"a bit of the states", "merging kv heads", func(work string) { edit(mergeName(work, 2), flip) }, KindGate, "states that enter the merging of layer 2 are damaged"},
		{"states cut off", "merging kv heads", func(work string) { b.check(os.Truncate(mergeName(work, 2), 64)) }, KindGate, "merging of layer 2 are damaged"},
		{"states gone", "merging kv heads", func(work string) { b.check(os.Remove(mergeName(work, 2))) }, KindGate, "merging of layer 2 are damaged"},
		{"a bit of the maps", "merging kv heads", func(work string) { edit(mapFiles{dir: work}.name(0), flip) }, KindGate, "saved maps of layer 0 are damaged"},
		{"maps cut off", "merging kv heads", func(work string) { b.check(os.Truncate(mapFiles{dir: work}.name(1), 64)) }, KindGate, "saved maps of layer 1 are damaged"},
		{"maps too long", "merging kv heads", func(work string) { b.check(os.Truncate(mapFiles{dir: work}.name(1), 1<<40)) }, KindGate, "saved maps of layer 1 are damaged"},
		{"maps gone", "merging kv heads", func(work string) { b.check(os.Remove(mapFiles{dir: work}.name(1))) }, KindGate, "saved maps of layer 1 are damaged"},
		{"maps a directory", "merging kv heads", func(work string) {
			b.check(os.Remove(mapFiles{dir: work}.name(1)))
			b.check(os.Mkdir(mapFiles{dir: work}.name(1), 0o755))
		}, KindGate, "saved maps of layer 1 are damaged"},
		{"maps of another layer", "merging kv heads", func(work string) { b.check(os.Rename(mapFiles{dir: work}.name(0), mapFiles{dir: work}.name(1))) }, KindGate, "maps of layer"},
		{"maps that lie about", "merging kv heads", func(work string) { b.check(os.WriteFile(mapFiles{dir: work}.name(2), make([]byte, 99), 0o644)) }, 0, ""},
		{"states that lie about", "merging kv heads", func(work string) { b.check(os.WriteFile(mergeName(work, 3), make([]byte, 1<<20), 0o644)) }, 0, ""},
		{"maps of a layer that is written", "compressing", func(work string) { edit(mapFiles{dir: work}.name(0), flip) }, 0, ""},
		{"maps of a layer that is not", "compressing", func(work string) { edit(mapFiles{dir: work}.name(2), flip) }, KindGate, "saved maps of layer 2 are damaged"},
		{"journal that lost a layer", "merging kv heads", func(work string) {
			edit(filepath.Join(work, journalName), func(raw []byte) []byte { return raw[:bytes.LastIndexByte(raw[:len(raw)-1], '\n')+1] })
		}, KindGate, "merging of layer 1 are damaged"}, // its states are gone by then
		{"journal with a layer too many", "merging kv heads", func(work string) {
			edit(filepath.Join(work, journalName), func(raw []byte) []byte { return append(raw, `{"part":"kvmerge 2","state":"00"}`+"\n"...) })
		}, KindGate, "saved maps of layer 2 are damaged"},
	} {
		o := b.options(p, "damaged")
		b.check(os.RemoveAll(o.Out + partialSuffix))
		b.stopped(o, c.work, map[string]int{"merging kv heads": 8, "compressing": 2}[c.work]) // two layers merged, or prologue and layer 0 written
		c.damage(filepath.Join(o.Out+partialSuffix, workDir))
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

// TestMergeLeavesNothing: what planning and applying keep on disk meanwhile is gone after them, however they end.
func TestMergeLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		name, recipe string
		work         string // canceled in
		want         func(error) bool
	}{
		{"a plan", mergeRecipe, "", func(err error) bool { return err == nil }},
		{"a budget", "calibration: {sequences: 4, holdout: 2, length: 32}\nkvmerge: {kv_budget: 0.6}", "", func(err error) bool { return err == nil }},
		{"canceled while it is priced", "calibration: {sequences: 4, holdout: 2, length: 32}\nkvmerge: {kv_budget: 0.6}", "pricing kv heads", func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"canceled while it is merged", mergeRecipe, "merging kv heads", func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"canceled while it is measured", mergeRecipe, "held-out text, merged", func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"refused by a target at last", "target: [hf]\ncalibration: {sequences: 4, holdout: 2, length: 32}\nkvmerge: {kv_budget: 0.6, layout: compact}", "", func(err error) bool { return KindOf(err) == KindUsage }},
		{"a gate", mergeRecipe + "\nheads: {method: projected_error, full_share: 0, sink: 1, recent: 4}\ngates: {plan_kl: 0.0000001}", "", func(err error) bool { return KindOf(err) == KindGate }},
	} {
		b := newBench(t, testmodel.New(mergeOptions(formats.F32)), c.recipe)
		scratch := t.TempDir()
		t.Setenv("TMPDIR", scratch)
		ctx, cancel := context.WithCancel(context.Background())
		r, err := ParseRecipe([]byte(c.recipe))
		b.check(err)
		env := testEnv()
		if c.work != "" {
			env.Progress = &quiet{work: c.work, after: 1, cancel: cancel}
		}
		p, err := Plan(ctx, PlanOptions{ModelDir: b.src, Recipe: r, RecipeDigest: sumDigest([]byte(c.recipe)),
			Data: b.paths(), Tool: planfile.Tool{Name: "test", Version: "0"}, Env: env})
		cancel()
		if !c.want(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if p != nil {
			o := b.options(p, "out")
			_, err := Apply(context.Background(), o)
			b.check(err)
			checkSizes(t, p, o.Out)
			if _, err := os.Stat(o.Out + partialSuffix); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: the partial output is still there", c.name)
			}
		}
		list, err := os.ReadDir(scratch)
		b.check(err)
		for _, f := range list {
			t.Errorf("%s: %s is left in the temporary directory", c.name, f.Name())
		}
	}
}
