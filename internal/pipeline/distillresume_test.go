package pipeline

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats/planfile"
	"modelpress/internal/testmodel"
)

// distillResume looks at the teacher's predictions in files, keeps the best weights, and has a step behind it; 12 windows of 32 tokens are
// trained on, two a step.
const distillResume = "seed: 5\ncalibration: {sequences: 12, holdout: 2, length: 32}\nprune: {method: random, params: 0.6681, axes: [hidden, ffn], multiple: 32}\n" +
	"distill: {steps: 6, batch: 1, accumulate: 2, warmup: 1, rate: 0.001, top_k: 12, hidden: {layers: [[0, 0]]}, eval_every: 2, save_every: 4}\n" +
	"quantize: {method: gptq, bits: 8, group_size: 32}"

func resumeTraining(t *testing.T) (*bench, *planfile.Plan, string) {
	t.Helper()
	b := newBench(t, testmodel.New(testmodel.Options{Layers: 2, D: 64, H: 4, G: 2, F: 96, V: 96, Seed: 41}), distillResume)
	p, err := b.plan()
	b.check(err)
	whole := b.options(p, "whole")
	_, err = Apply(context.Background(), whole)
	b.check(err)
	checkSizes(t, p, whole.Out)
	return b, p, whole.Out
}

// TestDistillResume interrupts an apply in every part of training and after it; the result is that of a run in one go, and no step is
// done twice.
func TestDistillResume(t *testing.T) {
	b, p, whole := resumeTraining(t)
	const step = 64 // tokens
	for _, c := range []struct {
		work  string
		after []int
		left  int // steps of training when it goes on
	}{
		{"predictions of the teacher", []int{1}, 6}, {"predictions of the teacher", []int{7}, 6},
		{"training", []int{1}, 5}, {"training", []int{2 * step}, 4}, {"training", []int{3 * step, 4 * step}, 2}, {"training", []int{6 * step}, 0},
		{"compressing", []int{1}, 0}, {"compressing", []int{2, 3}, 0},
	} {
		o := b.options(p, "resumed")
		for _, n := range c.after {
			b.stopped(o, c.work, n)
		}
		count := &trained{}
		o.Env = threads(3)
		o.Env.Progress = count
		_, err := Apply(context.Background(), o)
		b.check(err)
		if count.steps != c.left {
			t.Errorf("%s stopped after %v: %d steps were left, want %d", c.work, c.after, count.steps, c.left)
		}
		b.sameDirs(whole, o.Out)
		b.check(os.RemoveAll(o.Out))
	}
	o := b.options(p, "whole")
	if res, err := Apply(context.Background(), o); err != nil || !res.Already {
		t.Errorf("once more: %+v, %v", res, err)
	}
}

// TestEveryStepResumes interrupts an apply of pruning, merging, low-rank training and sparse weights in each of them.
func TestEveryStepResumes(t *testing.T) {
	b := newBench(t, testmodel.New(testmodel.Options{Layers: 3, D: 64, H: 8, G: 4, F: 128, V: 96, Seed: 41}), "seed: 5\ncalibration: {sequences: 4, holdout: 2, length: 32}\n"+
		"prune: {method: magnitude, params: 0.7, axes: [hidden, ffn], multiple: 4}\nkvmerge: {kv_heads: 2}\n"+
		"distill: {steps: 4, batch: 2, rate: 0.001, lora: {rank: 2}, relations: {version: 2}}\nsparsify: {pattern: '2:4'}")
	p, err := b.plan()
	b.check(err)
	whole := b.options(p, "whole")
	_, err = Apply(context.Background(), whole)
	b.check(err)
	checkSizes(t, p, whole.Out)
	o := b.options(p, "resumed")
	for _, c := range []struct {
		work  string
		after int
	}{{"merging kv heads", 6}, {"training", 64}, {"training", 192}, {"compressing", 2}} {
		b.stopped(o, c.work, c.after)
	}
	count := &trained{}
	o.Env.Progress = count
	res, err := Apply(context.Background(), o)
	b.check(err)
	if !res.Resumed || count.steps > 0 {
		t.Errorf("resumed %t, %d steps of training", res.Resumed, count.steps)
	}
	b.sameDirs(whole.Out, o.Out)
}

// TestDistillDamagedPartialOutput: what an interrupted training left is checked before it is used.
func TestDistillDamagedPartialOutput(t *testing.T) {
	b, p, whole := resumeTraining(t)
	edit := func(path string, f func([]byte) []byte) {
		raw, err := os.ReadFile(path)
		b.check(err)
		b.check(os.WriteFile(path, f(raw), 0o644))
	}
	flip := func(at int) func([]byte) []byte {
		return func(raw []byte) []byte { raw[(at+len(raw))%len(raw)] ^= 1; return raw }
	}
	state := func(work string) string { return filepath.Join(work, trainState) }
	for _, c := range []struct {
		name   string
		work   string // stopped in
		after  int
		damage func(work string)
		kind   Kind // 0: the run succeeds with the same bytes
		want   string
	}{
		{"nothing", "training", 128, func(string) {}, 0, ""},
		{"a bit of the state", "training", 128, func(work string) { edit(state(work), flip(-99)) }, KindGate, "next: remove the .partial directory and apply again"},
		{"a bit of its head", "training", 128, func(work string) { edit(state(work), flip(3)) }, KindGate, "next: remove the .partial directory and apply again"},
		{"a state cut off", "training", 128, func(work string) { b.check(os.Truncate(state(work), 999)) }, KindGate, "apply again"},
		{"a state of nothing", "training", 128, func(work string) { b.check(os.Truncate(state(work), 0)) }, KindGate, "apply again"},
		{"a state without end", "training", 128, func(work string) { b.check(os.Truncate(state(work), 1<<40)) }, KindGate, "apply again"},
		{"a state gone", "training", 128, func(work string) { b.check(os.Remove(state(work))) }, 0, ""},
		{"a directory for a state", "training", 128, func(work string) {
			b.check(os.Remove(state(work)))
			b.check(os.Mkdir(state(work), 0o755))
		}, KindGate, "apply again"},
		{"predictions cut off", "training", 128, func(work string) { b.check(os.Truncate(filepath.Join(work, "train"+topKSuffix), 500)) }, 0, ""},
		{"predictions gone", "training", 128, func(work string) { b.check(os.Remove(filepath.Join(work, "heldout"+topKSuffix))) }, 0, ""},
		{"a bit of the predictions", "training", 128, func(work string) { edit(filepath.Join(work, "train"+topKSuffix), flip(-200)) }, 0, ""},
		{"predictions of other windows", "training", 128, func(work string) {
			raw, err := os.ReadFile(filepath.Join(work, "heldout"+topKSuffix))
			b.check(err)
			b.check(os.WriteFile(filepath.Join(work, "train"+topKSuffix), raw, 0o644))
		}, 0, ""},
		{"a bit of the weights", "compressing", 1, func(work string) { edit(filepath.Join(work, trainedDir, trainedName), flip(-5)) }, KindGate, "the trained weights of an earlier run are damaged"},
		{"weights cut off", "compressing", 1, func(work string) { b.check(os.Truncate(filepath.Join(work, trainedDir, trainedName), 64)) }, KindGate, "trained weights of an earlier run are damaged"},
		{"weights gone", "compressing", 1, func(work string) { b.check(os.Remove(filepath.Join(work, trainedDir, trainedName))) }, KindGate, "trained weights of an earlier run are damaged"},
		{"half-written weights that nobody entered", "training", 128, func(work string) {
			b.check(os.MkdirAll(filepath.Join(work, trainedDir), 0o755))
			b.check(os.WriteFile(filepath.Join(work, trainedDir, trainedName), []byte("half"), 0o644))
		}, 0, ""},
		{"a journal that lost the weights", "compressing", 1, func(work string) {
			edit(filepath.Join(work, journalName), func(raw []byte) []byte { return raw[:bytes.IndexByte(raw, '\n')+1] })
		}, 0, ""},
	} {
		o := b.options(p, "damaged")
		b.check(os.RemoveAll(o.Out + partialSuffix))
		b.stopped(o, c.work, c.after)
		c.damage(filepath.Join(o.Out+partialSuffix, workDir))
		_, err := Apply(context.Background(), o)
		if KindOf(err) != c.kind || err != nil && !strings.Contains(err.Error(), c.want) || c.kind == 0 && err != nil {
			t.Errorf("%s: %v, want kind %d with %q", c.name, err, c.kind, c.want)
		}
		if err == nil {
			b.sameDirs(whole, o.Out)
		} else if _, serr := os.Stat(o.Out); serr == nil {
			t.Errorf("%s: there is an output", c.name)
		}
		b.check(os.RemoveAll(o.Out))
	}
}
