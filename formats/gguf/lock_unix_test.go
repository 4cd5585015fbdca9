//go:build unix

package gguf

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"modelpress/formats"
)

// Files that a process writes are not another's to replace.
func TestTwoWriters(t *testing.T) {
	dir := t.TempDir()
	w := createGolden(t, dir)
	_, err := Create(filepath.Join(dir, "m.gguf"), goldenKV(), goldenTensors(), Options{SplitTensors: 4})
	if !errors.Is(err, formats.ErrLocked) {
		t.Errorf("while another writes: %v", err)
	}
	fill(t, w)
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	checkTool(t, dir)
	if _, err := Create(filepath.Join(dir, "m.gguf"), goldenKV(), goldenTensors(), Options{SplitTensors: 4}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("after the first: %v", err)
	}
}
