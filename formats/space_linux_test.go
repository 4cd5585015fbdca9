package formats

import (
	"errors"
	"os"
	"testing"
)

func TestCheckSpaceRefuses(t *testing.T) {
	if err := CheckSpace(t.TempDir(), 1<<62); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
	if err := CheckSpace("/nonexistent", 1); err == nil || errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
}

// TestFullDevice checks the mapping of a real error of the kernel.
func TestFullDevice(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); !errors.Is(NoSpace(err), ErrNoSpace) {
		t.Error(err)
	}
}
