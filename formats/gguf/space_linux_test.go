package gguf

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats"
)

// TestCreateNoSpace asks for more than any disk has: the refusal comes before anything is made.
func TestCreateNoSpace(t *testing.T) {
	dir := t.TempDir()
	_, err := Create(filepath.Join(dir, "m.gguf"), nil, []Tensor{vector("a", 1), vector("b", 1<<60)}, Options{SplitTensors: 1})
	if !errors.Is(err, formats.ErrNoSpace) || !strings.Contains(err.Error(), "bytes are needed") {
		t.Errorf("error %v", err)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("left behind: %s", got)
	}
}
