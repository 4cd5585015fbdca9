//go:build linux

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"modelpress/internal/testmodel"
)

// TestConvertMemory: tensors that are copied, cast or made of blocks take a few MiB, however large they are; what is packed whole takes no
// more than the least memory that the program says it needs.
func TestConvertMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("some hundred MiB are written")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := writeModel(src, testmodel.New(testmodel.Options{Layers: 1, D: 512, H: 4, G: 2, F: 256, V: 1 << 16, Tied: true, Seed: 4}), 0); err != nil {
		t.Fatal(err)
	}
	const embedding = 128 // MiB
	for _, to := range [][]string{
		{"gguf", "--type", "q8_0"}, {"gguf", "--type", "q4_k_m"}, {"gguf"}, {"safetensors", "--dtype", "bf16"}, {"same"}, {"compressed-tensors", "--scheme", "fp8"},
	} {
		if n := convertResident(t, src, filepath.Join(dir, "out"), to...); n > 3*embedding/4 {
			t.Errorf("%v: %d MiB are resident", to, n)
		}
	}
	for _, to := range [][]string{{"compressed-tensors", "--scheme", "fp8", "--quantize-head", "--untie"}, {"gptq", "--quantize-head", "--untie"}} {
		args := append([]string{"convert", src, "-o", filepath.Join(dir, "out"), "--to"}, to...)
		_, stderr := mustRun(t, exitResource, append(args, "--max-memory", "90MiB")...)
		least := regexp.MustCompile(`--max-memory ([0-9]+)MiB`).FindStringSubmatch(stderr)
		if least == nil {
			t.Fatal(stderr)
		}
		limit, err := strconv.Atoi(least[1])
		if err != nil {
			t.Fatal(err)
		}
		if n := convertResident(t, src, filepath.Join(dir, "out"), append(to, "--max-memory", least[1]+"MiB")...); n > limit+testCode {
			t.Errorf("%v: %d MiB are resident, %d allowed", to, n, limit)
		}
	}
}

// convertResident runs a conversion and returns the most memory that it had, in MiB.
func convertResident(t *testing.T, src, out string, to ...string) int {
	t.Helper()
	c, output := program(t, append([]string{"convert", src, "-o", out, "--to"}, to...)...)
	c.Env = append(c.Env, tellsMemory+"=1")
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", to, err, output)
	}
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	n := int(resident(t, output.String()) >> 20)
	t.Logf("%v: %d MiB", to, n)
	return n
}
