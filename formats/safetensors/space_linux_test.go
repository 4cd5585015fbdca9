package safetensors

import (
	"errors"
	"strings"
	"testing"

	"modelpress/formats"
)

// TestWriterNoSpace asks for more than any disk has: the refusal comes before anything is made.
func TestWriterNoSpace(t *testing.T) {
	dir := t.TempDir()
	l, err := PlanLayout([]formats.TensorInfo{tensor("a", formats.U8, 1), tensor("b", formats.U8, 1<<60)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Create(dir, l, nil)
	if !errors.Is(err, formats.ErrNoSpace) || !strings.Contains(err.Error(), "bytes are needed") {
		t.Errorf("error %v", err)
	}
	if files := contents(t, dir); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}
