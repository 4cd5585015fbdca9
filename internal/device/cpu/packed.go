package cpu

import (
	"errors"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// NewBF16 returns a device of that many threads whose MatMulNT multiplies in bfloat16: x and w are rounded to the nearest
// bfloat16 (a w in bfloat16 is taken as it is), products are summed in f32. All else is as in New. Its class begins with
// "cpu-bf16", and the bits of results belong to it.
//
// Weights are packed when they are first multiplied by: bfloat16 in place of what was uploaded, without more memory once
// that is done (2 bytes per element); IEEE half precision besides it (4 bytes per element); f32, which the host may change
// at any time, anew for every product (4, and 2 while it runs).
func NewBF16(threads int) *Device {
	d := New(threads)
	d.bf16 = true
	return d
}

// ErrNoAMX is the cause where the processor or the system has no tiles for bfloat16.
var ErrNoAMX = errors.New("this machine has no AMX tiles for bfloat16")

// NewBF16AMX is NewBF16 on the tiles of AMX. Its class begins with "cpu-bf16amx".
func NewBF16AMX(threads int) (*Device, error) {
	if !num.AskAMX() {
		return nil, ErrNoAMX
	}
	return NewBF16(threads), nil
}

// bf16Class names the kernels of a device for bfloat16.
func bf16Class() string { return "cpu-" + num.ClassBF16() + "-" + num.Class() }

// matMulBF16 is MatMulNT with both operands in bfloat16.
func (d *Device) matMulBF16(y, x []float32, w *buffer, m, n, kd int, beta float32) {
	if w.kind == device.F32 || w.Len() != n*kd || w.part {
		num.GemmBF16(y, n, x, kd, w.weights(kd), m, n, kd, beta, d.For)
		return
	}
	num.GemmPacked(y, n, x, kd, w.pack(n, kd, d.For), m, beta, d.For)
}

// pack returns the buffer as packed weights [n, k], which are all of it. It keeps them.
func (b *buffer) pack(n, k int, par num.Par) *num.PackedBF16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.packed != nil {
		if pn, pk := b.packed.Size(); pn == n && pk == k {
			return b.packed
		}
	}
	b.unpack()
	b.packed = num.PackBF16(num.Weights{U16: b.half, BF16: b.kind == device.BF16, LD: k}, n, k, par)
	if b.kind == device.BF16 {
		b.half = nil
	}
	return b.packed
}

// unpack brings back what was uploaded and drops the packed form; the caller holds mu.
func (b *buffer) unpack() {
	if b.packed != nil && b.half == nil {
		b.half = make([]uint16, b.n)
		b.rows(b.half, 0)
	}
	b.packed = nil
}

// raw returns the 16-bit elements, for reading or writing, and drops the packed form.
func (b *buffer) raw() []uint16 {
	if b.of != nil {
		return b.of.raw()[b.at : b.at+b.n]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unpack()
	return b.half
}

// read returns the elements [off, off+n) of a 16-bit buffer, for reading, however they are held.
func (b *buffer) read(off, n int) []uint16 {
	if b.of != nil {
		return b.of.read(b.at+off, n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.half != nil || b.packed == nil {
		return b.half[off : off+n]
	}
	dst := make([]uint16, n)
	b.rows(dst, off)
	return dst
}

// rows copies elements from off on out of the packed form.
func (b *buffer) rows(dst []uint16, off int) {
	_, k := b.packed.Size()
	for len(dst) > 0 {
		n := min(len(dst), k-off%k)
		b.packed.Row(dst[:n], off/k, off%k)
		dst, off = dst[n:], off+n
	}
}
