package cpu

import (
	"errors"
	"strings"
	"testing"

	x86 "golang.org/x/sys/cpu"
)

// bf16 alone never becomes AMX, and a machine without tiles refuses it. On a machine that has them nothing is asked of them
// here: asking is for the process as a whole, and would change the device of every other test.
func TestAMXIsAskedFor(t *testing.T) {
	if class := NewBF16(1).Class(); strings.Contains(class, "amx") {
		t.Fatalf("class %s without being asked for", class)
	}
	if x86.X86.HasAMXTile {
		return
	}
	if _, err := NewBF16AMX(1); !errors.Is(err, ErrNoAMX) {
		t.Errorf("error %v", err)
	}
}
