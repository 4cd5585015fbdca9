//go:build cuda

package cuda

import (
	"fmt"
	"math"

	cu "gorgonia.org/cu"

	"modelpress/internal/device"
)

// ptr is an address in the memory of the device.
type ptr uint64

// buffer is n elements of a store from off on.
type buffer struct {
	kind device.Kind
	n    int
	off  int64 // in bytes
	view bool  // of a buffer that owns the store
	*store
}

// store is memory that buffers share. Its fields but the first two are guarded by Device.order.
type store struct {
	d     *Device
	block *block

	fresh   bool   // not written yet: zeroed when it is first used
	used    int64  // the tick of the compute stream after which it may be written by another stream
	ready   int64  // the tick of the stream of copies after which it may be read
	version uint64 // counts writes
	dead    bool
}

func (b *buffer) Len() int          { return b.n }
func (b *buffer) Kind() device.Kind { return b.kind }

// Free gives the memory back for work that comes after what has been queued; that of a slice stays.
func (b *buffer) Free() {
	s := b.store
	d := s.d
	d.order.Lock()
	defer d.order.Unlock()
	if b.view || s.dead || d.closed {
		return
	}
	s.dead = true
	d.forget(s)
	restore, err := d.enter()
	if err == nil {
		defer restore()
		if err = d.compute.follow(s.ready); err == nil && s.used == d.compute.tick && s.block.bytes > smallBlock {
			_, err = d.compute.mark()
		}
	}
	if err != nil { // the device is lost, and with it whatever might still use the memory
		s.used = d.compute.tick
	}
	d.arena.release(s.block, s.used)
}

func (b *buffer) addr() ptr { return b.block.addr + ptr(b.off) }

func (b *buffer) bytes() int64 { return int64(b.n) * int64(b.kind.Size()) }

// Alloc returns n elements, which are zeroed when they are first used.
func (d *Device) Alloc(kind device.Kind, n int) (device.Buf, error) {
	if n < 0 || n > math.MaxInt/8 || kind > device.F16 {
		return nil, fmt.Errorf("cuda: no buffer of %d elements of kind %d", n, kind)
	}
	d.order.Lock()
	defer d.order.Unlock()
	restore, err := d.enter()
	if err != nil {
		return nil, err
	}
	defer restore()
	b, err := d.take(int64(n) * int64(kind.Size()))
	if err != nil {
		return nil, err
	}
	return &buffer{kind: kind, n: n, store: &store{d: d, block: b, fresh: true, used: b.stamp}}, nil
}

// take returns a piece of the arena, without what is only remembered where that stands in the way. The caller holds order.
func (d *Device) take(bytes int64) (*block, error) {
	b, err := d.arena.alloc(bytes)
	if err != nil && d.forgetAll() {
		b, err = d.arena.alloc(bytes)
	}
	return b, err
}

// Slice returns n elements of b from off on as a buffer in the same memory; its Free does nothing.
func (d *Device) Slice(b device.Buf, off, n int) device.Buf {
	o := d.own("Slice", b)
	o.check("Slice", off, n)
	return &buffer{kind: o.kind, n: n, off: o.off + int64(off)*int64(o.kind.Size()), view: true, store: o.store}
}

// own returns a buffer of this device that has not been freed.
func (d *Device) own(op string, b device.Buf) *buffer {
	o, ok := b.(*buffer)
	if !ok || o.d != d {
		panic(fmt.Sprintf("cuda: %s: a buffer of another device", op))
	}
	if o.dead {
		panic(fmt.Sprintf("cuda: %s: a buffer that was freed", op))
	}
	return o
}

// check panics where [off, off+n) is not within the buffer.
func (b *buffer) check(op string, off, n int) {
	if off < 0 || n < 0 || off > b.n || n > b.n-off {
		panic(fmt.Sprintf("cuda: %s: elements [%d, %d+%d) of a buffer of %d", op, off, off, n, b.n))
	}
}

// settle makes the store ready for work of the compute stream, and counts a write. The caller holds order.
func (d *Device) settle(s *store, write bool) error {
	if err := d.compute.follow(s.ready); err != nil {
		return err
	}
	if s.fresh {
		if err := cu.MemsetD8Async(cu.DevicePtr(s.block.addr), 0, s.block.bytes, d.compute.stream); err != nil {
			return failed("cuMemsetD8Async", err, "")
		}
		s.fresh = false
	}
	if write {
		s.version++
	}
	s.used = d.compute.tick
	return nil
}
