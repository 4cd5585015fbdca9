package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"modelpress/internal/testmodel"
)

// TestThreadsAndCrashes: the same plan gives the same bytes with one thread and with two, twice each, and after SIGKILL at
// twenty random moments.
func TestThreadsAndCrashes(t *testing.T) {
	dir := t.TempDir()
	plan, flags := planFast(t, dir)
	apply := func(out string, more ...string) []string {
		return append(append([]string{"apply", plan, "-o", out}, flags...), more...)
	}
	want, took := "", time.Duration(0)
	for _, c := range []struct{ name, threads string }{{"one-a", "1"}, {"two-a", "2"}, {"one-b", "1"}, {"two-b", "2"}} {
		out := filepath.Join(dir, c.name)
		start := time.Now()
		mustRun(t, exitOK, apply(out, "--threads", c.threads)...)
		took = time.Since(start)
		if got := tree(t, out); want == "" {
			want = got
		} else if got != want {
			t.Fatalf("run %s differs:\n%s\nwant\n%s", c.name, got, want)
		}
	}
	out := filepath.Join(dir, "killed")
	kills := killRandomly(t, apply(out), out, took)
	mustRun(t, exitOK, apply(out)...)
	if got := tree(t, out); got != want {
		t.Fatalf("after %d kills the result differs:\n%s\nwant\n%s", kills, got, want)
	}
	if _, err := os.Stat(out + ".partial"); !os.IsNotExist(err) {
		t.Errorf("the partial directory is still there: %v", err)
	}
	t.Logf("identical after %d kills", kills)
}

// TestMergeCrashes: a merged result is the same after SIGKILL at random moments, and nothing but the result is left.
func TestMergeCrashes(t *testing.T) {
	crashes(t, "kvmerge: {kv_heads: 1, mix: true}\nquantize: {method: gptq, bits: 8, group_size: 32}\n")
}

// TestSparsifyCrashes: so is a sparse one.
func TestSparsifyCrashes(t *testing.T) {
	crashes(t, "sparsify: {pattern: '2:4'}\n")
}

// TestDistillCrashes: so is one that is pruned and trained, with a state saved now and then.
func TestDistillCrashes(t *testing.T) {
	crashes(t, "prune: {method: random, params: 0.5, axes: [hidden, ffn], multiple: 4}\ndistill: {steps: 7, batch: 1, rate: 0.001, save_every: 2, top_k: 8}\n")
}

func crashes(t *testing.T, steps string) {
	dir := t.TempDir()
	src, data := filepath.Join(dir, "src"), write(t, dir, "calib.npy", string(npy(testmodel.Windows(12, 64, 128, 3))))
	if err := writeModel(src, testmodel.New(testmodel.Options{Layers: 6, D: 64, H: 8, G: 4, F: 128, V: 128, Seed: 9}), 0); err != nil {
		t.Fatal(err)
	}
	recipe := write(t, dir, "recipe.yaml", "calibration: {sequences: 10, holdout: 2, length: 64}\n"+steps)
	plan := filepath.Join(dir, "plan.json")
	mustRun(t, exitOK, "plan", "--model", src, "--recipe", recipe, "--calib", data, "-o", plan)
	apply := func(out string) []string { return []string{"apply", plan, "--model", src, "--calib", data, "-o", out} }
	start := time.Now()
	whole, out := filepath.Join(dir, "whole"), filepath.Join(dir, "killed")
	mustRun(t, exitOK, apply(whole)...)
	kills := killRandomly(t, apply(out), out, time.Since(start))
	mustRun(t, exitOK, apply(out)...)
	if got, want := tree(t, out), tree(t, whole); got != want {
		t.Errorf("after %d kills the result differs:\n%s\nwant\n%s", kills, got, want)
	}
	if _, err := os.Stat(out + ".partial"); !os.IsNotExist(err) {
		t.Errorf("the partial directory is still there: %v", err)
	}
}

// TestConvertCrashes: a conversion that is killed leaves nothing that looks whole, and the next one is as if it had not been.
func TestConvertCrashes(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := writeModel(src, testmodel.New(testmodel.Options{Layers: 3, D: 256, H: 8, G: 4, F: 256, V: 256, Seed: 9}), 0); err != nil {
		t.Fatal(err)
	}
	for _, to := range [][]string{{"compressed-tensors", "--scheme", "w4a16"}, {"gguf", "--type", "q6_k"}} {
		convert := func(out string) []string { return append([]string{"convert", src, "-o", out, "--to"}, to...) }
		start := time.Now()
		whole, out := filepath.Join(dir, "whole-"+to[0]), filepath.Join(dir, "killed-"+to[0])
		mustRun(t, exitOK, convert(whole)...)
		kills := killRandomly(t, convert(out), out, time.Since(start))
		os.RemoveAll(out)
		mustRun(t, exitOK, convert(out)...)
		if got, want := tree(t, out), tree(t, whole); got != want {
			t.Errorf("%s: after %d kills the result differs:\n%s\nwant\n%s", to[0], kills, got, want)
		}
		if left, _ := filepath.Glob(out + ".*"); len(left) > 0 {
			t.Errorf("%s: %v is still there", to[0], left)
		}
	}
}

// killRandomly starts the program again and again and kills each run at a random moment, twenty times. A run that ends
// before its moment has its output removed, so that the next one starts from nothing.
func killRandomly(t *testing.T, args []string, out string, took time.Duration) int {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	kills := 0
	for kills < 20 {
		c, output := program(t, args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(took))), func() { c.Process.Kill() })
		err := c.Wait()
		timer.Stop()
		switch {
		case err == nil:
			if err := os.RemoveAll(out); err != nil {
				t.Fatal(err)
			}
		case c.ProcessState.ExitCode() == -1:
			kills++
			if err := os.RemoveAll(out); err != nil { // it was killed after all was done
				t.Fatal(err)
			}
		default:
			t.Fatalf("a resumed run failed: %v\n%s", err, output)
		}
	}
	return kills
}
