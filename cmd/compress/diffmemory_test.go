//go:build linux

package main

import (
	"path/filepath"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// TestDiffMemory compares codes with plain values and with blocks: what is resident beyond the program itself is a few MiB for each worker. The
// values that are compared would take eight times that.
func TestDiffMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of compute")
	}
	const workers, each = 4, 8 << 20
	dir := t.TempDir()
	src, codes, blocks := filepath.Join(dir, "src"), filepath.Join(dir, "codes"), filepath.Join(dir, "blocks.gguf")
	o := testmodel.Options{Layers: 2, D: 1024, H: 8, G: 4, F: 3072, V: 4096, DType: formats.F16, Seed: 12}
	m := testmodel.New(o)
	if err := writeModel(src, m, 0); err != nil {
		t.Fatal(err)
	}
	values := int64(0)
	for _, info := range m.Tensors() {
		n, err := info.Elements()
		if err != nil {
			t.Fatal(err)
		}
		values += n
	}
	mustRun(t, exitOK, "convert", src, "--to", "compressed-tensors", "--scheme", "w8a16", "-o", codes)
	mustRun(t, exitOK, "convert", src, "--to", "gguf", "--type", "q8_0", "-o", blocks)
	run := func(args ...string) int64 {
		c, output := program(t, args...)
		c.Env = append(c.Env, tellsMemory+"=1", "GOGC=33") // as main sets it
		if err := c.Run(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		return resident(t, output.String())
	}
	base := run("version")
	for _, other := range []string{src, blocks} {
		got := run("diff", codes, other, "--threads", "3") - base
		t.Logf("%s: %d MiB beyond %d, for values of %d MiB", filepath.Base(other), got>>20, base>>20, 2*4*values>>20)
		if got > workers*each || 2*4*values < 8*workers*each {
			t.Errorf("%d bytes to compare %d values", got, values)
		}
	}
}
