//go:build linux

package main

import (
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"modelpress/internal/testmodel"
)

// TestMergeMemory plans and applies with the least memory that the program says it needs, and no more is resident than that.
func TestMergeMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of compute")
	}
	keepsMemory(t, testmodel.Options{D: 1024, H: 16, G: 8, F: 512, V: 256, Seed: 12}, map[string]string{
		"refitted": "kvmerge: {kv_heads: 4, mix: true}",
		"budget":   "kvmerge: {kv_budget: 0.5, mix: true, refit: false, layout: portable}",
	})
}

// TestSparsifyMemory is TestMergeMemory for sparse weights.
func TestSparsifyMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of compute")
	}
	keepsMemory(t, testmodel.Options{Layers: 2, D: 1536, H: 12, G: 4, F: 1024, V: 256, Seed: 12}, map[string]string{
		"sparsegpt": "sparsify: {}",
		"wanda":     "sparsify: {method: wanda, per: matrix}",
	})
}

// keepsMemory runs recipes of one step on a model.
func keepsMemory(t *testing.T, o testmodel.Options, steps map[string]string) {
	dir := t.TempDir()
	if err := writeModel(filepath.Join(dir, "src"), testmodel.New(o), 0); err != nil {
		t.Fatal(err)
	}
	data := write(t, dir, "calib.npy", string(npy(testmodel.Windows(10, 64, o.V, 3))))
	for name, step := range steps {
		recipe := write(t, dir, name+".yaml", "calibration: {sequences: 8, holdout: 2, length: 64}\n"+step+"\n")
		plan := filepath.Join(dir, name+".json")
		for _, args := range [][]string{
			{"plan", "--model", filepath.Join(dir, "src"), "--recipe", recipe, "--calib", data, "-o", plan},
			{"apply", plan, "--model", filepath.Join(dir, "src"), "--calib", data, "-o", filepath.Join(dir, name)},
		} {
			_, stderr := mustRun(t, exitResource, append(args, "--max-memory", "1MiB")...)
			least := regexp.MustCompile(`--max-memory ([0-9]+)MiB`).FindStringSubmatch(stderr)
			if least == nil {
				t.Fatal(stderr)
			}
			limit, err := strconv.Atoi(least[1])
			if err != nil {
				t.Fatal(err)
			}
			c, output := program(t, append(args, "--max-memory", least[1]+"MiB")...)
			c.Env = append(c.Env, tellsMemory+"=1")
			if err := c.Run(); err != nil {
				t.Fatalf("%s: %v\n%s", args[0], err, output)
			}
			resident := resident(t, output.String())
			t.Logf("%s %s: %d of %d MiB resident", args[0], name, resident>>20, limit)
			if resident > int64(limit+testCode)<<20 {
				t.Errorf("%s %s: %d MiB resident, %d allowed", args[0], name, resident>>20, limit)
			}
		}
	}
}

// testCode is what the code of this test binary takes beyond the program's, in MiB; it stands out since the model is small.
const testCode = 10

// resident is the most memory that a program says it had.
func resident(t *testing.T, output string) int64 {
	t.Helper()
	m := regexp.MustCompile(`VmHWM:\s*([0-9]+) kB`).FindStringSubmatch(output)
	if m == nil {
		t.Fatalf("no figure of memory in %q", output)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
