package cpu

import (
	"fmt"

	"modelpress/internal/device"
)

// Slice returns n elements of b from off on as a buffer in the same memory.
func (d *Device) Slice(b device.Buf, off, n int) device.Buf {
	c := span("Slice", b, off, n)
	if c.kind == device.F32 {
		return &buffer{kind: c.kind, n: n, part: true, f32: c.f32[off : off+n : off+n]}
	}
	s := &buffer{kind: c.kind, n: n, part: true, of: c, at: off}
	if c.of != nil {
		s.of, s.at = c.of, c.at+off
	}
	return s
}

// Copy: dst[off:off+n] = src[from:from+n], both of one kind.
func (d *Device) Copy(dst device.Buf, off int, src device.Buf, from, n int) {
	const op = "Copy"
	to, with := span(op, dst, off, n), span(op, src, from, n)
	if to.kind != with.kind {
		panic(fmt.Sprintf("cpu: %s: from kind %d to kind %d", op, with.kind, to.kind))
	}
	if to.kind == device.F32 {
		copy(to.f32[off:off+n], with.f32[from:from+n])
		return
	}
	half := with.read(from, n)
	copy(to.raw()[off:off+n], half)
}

// Zero sets n elements of b from off on to zero.
func (d *Device) Zero(b device.Buf, off, n int) {
	c := span("Zero", b, off, n)
	if c.kind == device.F32 {
		clear(c.f32[off : off+n])
		return
	}
	clear(c.raw()[off : off+n])
}

// span checks that a buffer has n elements from off on.
func span(op string, b device.Buf, off, n int) *buffer {
	c := b.(*buffer)
	if off < 0 || n < 0 || off > c.n-n {
		panic(fmt.Sprintf("cpu: %s: elements %d to %d of %d", op, off, off+n, c.n))
	}
	return c
}
