//go:build cuda

package cuda

import (
	"fmt"
	"unsafe"

	cu "gorgonia.org/cu"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// Upload copies src to dst[off:], rounding to nearest even where dst is a 16-bit kind. The host rounds, so that less is sent.
func (d *Device) Upload(dst device.Buf, off int, src []float32) {
	const op = "Upload"
	o := d.own(op, dst)
	o.check(op, off, len(src))
	size := o.kind.Size()
	d.upload(op, o, int64(off)*int64(size), len(src)*size, func(to []byte, at int) {
		from := src[at/size : (at+len(to))/size]
		switch o.kind {
		case device.F32:
			copy(to, floatBytes(from))
		case device.BF16:
			num.F32ToBF16(halves(to), from)
		default:
			num.F32ToF16(halves(to), from)
		}
	})
}

// UploadRaw copies little-endian elements of dst's own kind to dst[off:].
func (d *Device) UploadRaw(dst device.Buf, off int, src []byte) {
	const op = "UploadRaw"
	o := d.own(op, dst)
	size := o.kind.Size()
	if len(src)%size != 0 {
		panic(fmt.Sprintf("cuda: UploadRaw: %d bytes are no whole number of elements", len(src)))
	}
	o.check(op, off, len(src)/size)
	d.upload(op, o, int64(off)*int64(size), len(src), func(to []byte, at int) { copy(to, src[at:]) })
}

// halves is pinned memory as 16-bit elements; machines with NVIDIA GPUs are little-endian.
func halves(b []byte) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/2)
}

// upload sends n bytes to the buffer from off on, through pieces of pinned memory that fill writes. It returns when all of them are
// written, while copies go on.
func (d *Device) upload(op string, o *buffer, off int64, n int, fill func(to []byte, at int)) {
	if n == 0 {
		return
	}
	d.copying(op, func() error { return d.prepare(o, off, int64(n)) })
	to := o.addr() + ptr(off)
	d.For((n+slotBytes-1)/slotBytes, func(i int) {
		s := <-d.uploads
		defer func() { d.uploads <- s }()
		at := i * slotBytes
		piece := s.data[:min(n-at, slotBytes)]
		d.fault(op, d.ready(s))
		fill(piece, at)
		d.copying(op, func() error {
			err := cu.MemcpyHtoDAsync(cu.DevicePtr(to+ptr(at)), unsafe.Pointer(&piece[0]), int64(len(piece)), d.copies.stream)
			if err != nil {
				return failed("cuMemcpyHtoDAsync", err, "")
			}
			return s.record(d.copies.stream)
		})
	})
	d.copying(op, func() error {
		o.ready = d.copies.tick
		_, err := d.copies.mark()
		return err
	})
}

// prepare makes the store ready for copies to n bytes of the buffer from off on: they come after work that uses it, and after zeros
// where it has not been written and the copies leave something out.
func (d *Device) prepare(o *buffer, off, n int64) error {
	s := o.store
	if err := d.copies.follow(s.used); err != nil {
		return err
	}
	if s.fresh && (o.view || off > 0 || n < o.bytes()) {
		if err := cu.MemsetD8Async(cu.DevicePtr(s.block.addr), 0, s.block.bytes, d.copies.stream); err != nil {
			return failed("cuMemsetD8Async", err, "")
		}
	}
	s.fresh = false
	s.version++
	return nil
}

// ready waits until a piece of pinned memory may be written.
func (d *Device) ready(s *slot) error {
	restore, err := d.enter()
	if err != nil {
		return err
	}
	defer restore()
	return s.wait()
}

// copying runs body on a thread of the device with order held.
func (d *Device) copying(op string, body func() error) {
	d.order.Lock()
	defer d.order.Unlock()
	restore, err := d.enter()
	d.fault(op, err)
	defer restore()
	d.fault(op, body())
}

// fault panics where err is set.
func (d *Device) fault(op string, err error) {
	if err != nil {
		panic(&device.Fault{Op: op, Err: err})
	}
}
