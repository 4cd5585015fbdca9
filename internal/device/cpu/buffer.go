package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"unsafe"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// buffer is a vector of n elements in main memory: f32 or half is set, after its kind, unless packed stands for half.
type buffer struct {
	kind device.Kind
	n    int
	f32  []float32
	part bool    // of a buffer that Slice was called for
	of   *buffer // that buffer where it is of a 16-bit kind: its elements may move
	at   int     // the place in it

	mu     sync.Mutex // guards what follows: products pack weights that they share
	half   []uint16
	packed *num.PackedBF16
}

func (b *buffer) Len() int          { return b.n }
func (b *buffer) Kind() device.Kind { return b.kind }

func (b *buffer) Free() {
	if !b.part {
		b.f32, b.half, b.packed, b.n = nil, nil, nil, 0
	}
}

// weights returns the buffer as a matrix with rows of ld elements.
func (b *buffer) weights(ld int) num.Weights {
	if b.kind == device.F32 {
		return num.F32Weights(b.f32, ld)
	}
	return num.Weights{U16: b.raw(), BF16: b.kind == device.BF16, LD: ld}
}

// f32 returns the first n elements of an F32 buffer.
func f32(op string, b device.Buf, n int) []float32 {
	c := b.(*buffer)
	if c.kind != device.F32 || len(c.f32) < n {
		panic(fmt.Sprintf("cpu: %s: buffer of kind %d with %d elements where %d of f32 are needed", op, c.kind, c.Len(), n))
	}
	return c.f32[:n]
}

// Alloc returns n zeroed elements.
func (d *Device) Alloc(kind device.Kind, n int) (device.Buf, error) {
	if n < 0 || n > math.MaxInt/4 || kind > device.F16 {
		return nil, fmt.Errorf("cpu: no buffer of %d elements of kind %d", n, kind)
	}
	if kind == device.F32 {
		return &buffer{kind: kind, n: n, f32: make([]float32, n)}, nil
	}
	return &buffer{kind: kind, n: n, half: make([]uint16, n)}, nil
}

// Share implements device.Sharer.
func (d *Device) Share(x []float32) device.Buf { return &buffer{kind: device.F32, n: len(x), f32: x} }

// Upload copies src to dst[off:], rounding to nearest even where dst is a 16-bit kind.
func (d *Device) Upload(dst device.Buf, off int, src []float32) {
	b := dst.(*buffer)
	switch b.kind {
	case device.F32:
		copy(b.f32[off:off+len(src)], src)
	case device.BF16:
		half := b.raw()[off : off+len(src)]
		d.rows(len(src), 1, func(lo, hi int) { num.F32ToBF16(half[lo:hi], src[lo:hi]) })
	default:
		half := b.raw()[off : off+len(src)]
		d.rows(len(src), 1, func(lo, hi int) { num.F32ToF16(half[lo:hi], src[lo:hi]) })
	}
}

// UploadRaw copies little-endian elements of dst's own kind to dst[off:].
func (d *Device) UploadRaw(dst device.Buf, off int, src []byte) {
	b := dst.(*buffer)
	n := len(src) / b.kind.Size()
	if n*b.kind.Size() != len(src) {
		panic(fmt.Sprintf("cpu: UploadRaw: %d bytes are no whole number of elements", len(src)))
	}
	if n == 0 {
		return
	}
	if b.kind == device.F32 {
		out := b.f32[off : off+n]
		if littleEndian {
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), 4*n), src)
			return
		}
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
		return
	}
	out := b.raw()[off : off+n]
	if littleEndian {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), 2*n), src)
		return
	}
	for i := range out {
		out[i] = binary.LittleEndian.Uint16(src[2*i:])
	}
}

// littleEndian reports whether values in memory are what files hold.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// Download copies src[off:off+len(dst)] to dst as f32.
func (d *Device) Download(dst []float32, src device.Buf, off int) {
	b := src.(*buffer)
	switch b.kind {
	case device.F32:
		copy(dst, b.f32[off:off+len(dst)])
	case device.BF16:
		half := b.read(off, len(dst))
		d.rows(len(dst), 1, func(lo, hi int) { num.BF16ToF32(dst[lo:hi], half[lo:hi]) })
	default:
		half := b.read(off, len(dst))
		d.rows(len(dst), 1, func(lo, hi int) { num.F16ToF32(dst[lo:hi], half[lo:hi]) })
	}
}

// Host returns the memory of an F32 buffer, nil for other kinds.
func (d *Device) Host(b device.Buf) []float32 { return b.(*buffer).f32 }
