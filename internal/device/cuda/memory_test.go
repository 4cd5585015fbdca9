//go:build cuda

package cuda

import (
	"errors"
	"strings"
	"testing"

	"modelpress/internal/device"
)

// Memory: the budget, what the driver has, and what is remembered for speed.
func TestMemory(t *testing.T) {
	const budget = 40 << 20
	d := open(t, Options{MaxMemory: budget, BF16: true})
	if d.Room() != budget {
		t.Errorf("room %d", d.Room())
	}
	x := alloc(t, d, device.F32, 6<<20)
	if _, err := d.Alloc(device.F32, 5<<20); !errors.Is(err, ErrMemory) {
		t.Errorf("over the budget: %v", err)
	}
	c := d.begin("test")
	if !c.room(8<<20) || c.room(20<<20) {
		t.Error("room is not what scratch gets")
	}
	f := caught(t, func() { c.scratch(20 << 20) })
	c.scratch(8 << 20)
	c.end()
	if f == nil || !errors.Is(f, ErrMemory) {
		t.Errorf("scratch over the budget: %v", f)
	}
	if d.Used() != 24<<20 || d.Peak() != 32<<20 {
		t.Errorf("%d bytes in use, %d at most", d.Used(), d.Peak())
	}
	w, y := alloc(t, d, device.BF16, 64<<10), alloc(t, d, device.F32, 100)
	d.MatMulNT(y, x, w, 96, 1, 64<<10, 0) // leaves x in bfloat16
	if d.rounded.store == nil || d.rounded.block.bytes != 12<<20 {
		t.Fatalf("%+v", d.rounded)
	}
	room := d.Room()
	if b, err := d.Alloc(device.F32, 3<<20); err != nil || d.rounded.store != nil { // in its place
		t.Errorf("room of %d bytes, and none for 12 MiB: %v", room, err)
	} else {
		b.Free()
	}
	x.Free()
	if _, err := d.Alloc(device.F32, -1); err == nil {
		t.Error("a negative size passes")
	}
	emulated(t, d)
	t.Setenv("MODELPRESS_EMU_FAIL", "alloc:1:2,alloc:2:2,alloc:3:2")
	if _, err := d.Alloc(device.F32, 9<<20); !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "CUDA_ERROR_OUT_OF_MEMORY (2)") {
		t.Errorf("the driver has none: %v", err)
	}
	t.Setenv("MODELPRESS_EMU_FAIL", "")
	d = open(t, Options{MaxMemory: 1 << 30})
	t.Setenv("MODELPRESS_EMU_FAIL", "alloc:1:2")
	alloc(t, d, device.F32, 9<<20).Free() // the driver has some at the second try
}

// Open refuses what it cannot open.
func TestOpen(t *testing.T) {
	emulated(t, open(t, Options{}))
	for _, c := range []struct {
		name, value string
		o           Options
		want        error
	}{
		{"ordinal", "", Options{Ordinal: 1}, ErrNoDevice},
		{"ordinal", "", Options{Ordinal: -1}, ErrNoDevice},
		{"budget", "", Options{MaxMemory: 1 << 20}, ErrMemory},
		{"MODELPRESS_EMU_FAIL", "pinned:3:2", Options{}, ErrMemory},
	} {
		if strings.HasPrefix(c.name, "MODELPRESS") {
			t.Setenv(c.name, c.value)
		}
		if _, err := Open(c.o); !errors.Is(err, c.want) {
			t.Errorf("%s %+v: %v", c.name, c.o, err)
		}
	}
	t.Setenv("MODELPRESS_EMU_FAIL", "")
	open(t, Options{})
}
