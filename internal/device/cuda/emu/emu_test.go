package emu

import (
	"os"
	"path/filepath"
	"testing"
)

// The kernels of package cuda are built, and a second call finds the same directory. With -v it says which: in MODELPRESS_CUDA_PATH that
// directory leads any program of the tag to the emulated device.
func TestBuild(t *testing.T) {
	dir := Build(t)
	t.Log(dir)
	if _, err := os.Stat(filepath.Join(dir, "libcuda.so.1")); err != nil {
		t.Fatal(err)
	}
	l, err := built()
	if err != nil || l.dir != dir {
		t.Errorf("built in %s, then in %s: %v", dir, l.dir, err)
	}
	for _, err := range l.failed {
		t.Error(err)
	}
}
