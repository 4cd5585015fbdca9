//go:build cuda

package cuda

import (
	"fmt"
	"unsafe"

	cu "gorgonia.org/cu"

	"modelpress/internal/device"
)

// call is one operation from begin to end. The device runs one at a time: what it queues stays together. Its methods panic with a
// *device.Fault where the device fails.
type call struct {
	d       *Device
	op      string
	restore func()
	stores  []*store // that it uses
	pieces  []*block // its scratch
}

// begin starts an operation: c := d.begin("Add"); defer c.end().
func (d *Device) begin(op string) *call {
	d.work.Lock()
	restore, err := d.enter()
	if err != nil {
		d.work.Unlock()
		panic(&device.Fault{Op: op, Err: err})
	}
	return &call{d: d, op: op, restore: restore}
}

// end gives the scratch back, for work that comes after what the operation has queued.
func (c *call) end() {
	d := c.d
	d.order.Lock()
	for _, s := range c.stores {
		s.used = d.compute.tick
	}
	for _, b := range c.pieces {
		d.arena.release(b, d.compute.tick)
	}
	d.order.Unlock()
	c.restore()
	d.work.Unlock()
}

// fail panics where err is set.
func (c *call) fail(err error) { c.d.fault(c.op, err) }

// in returns the address of an F32 buffer that the operation reads at least n elements of.
func (c *call) in(b device.Buf, n int) ptr { return c.f32(b, n, false) }

// out returns the address of an F32 buffer that the operation writes.
func (c *call) out(b device.Buf, n int) ptr { return c.f32(b, n, true) }

// any returns the address and the kind of a buffer that the operation reads at least n elements of.
func (c *call) any(b device.Buf, n int) (ptr, device.Kind) {
	o := c.d.own(c.op, b)
	if n < 0 || o.n < n {
		panic(fmt.Sprintf("cuda: %s: buffer with %d elements where %d are needed", c.op, o.n, n))
	}
	return c.use(o, false), o.kind
}

func (c *call) f32(b device.Buf, n int, write bool) ptr {
	o := c.d.own(c.op, b)
	if o.kind != device.F32 || n < 0 || o.n < n {
		panic(fmt.Sprintf("cuda: %s: buffer of kind %d with %d elements where %d of f32 are needed", c.op, o.kind, o.n, n))
	}
	return c.use(o, write)
}

// use orders the work of the operation behind what has written the buffer, and what comes later behind the operation.
func (c *call) use(o *buffer, write bool) ptr {
	c.d.order.Lock()
	defer c.d.order.Unlock()
	c.fail(c.d.settle(o.store, write))
	c.stores = append(c.stores, o.store)
	return o.addr()
}

// scratch returns that many bytes of workspace, 512-byte aligned and not zeroed, until end.
func (c *call) scratch(bytes int64) ptr {
	c.d.order.Lock()
	defer c.d.order.Unlock()
	b, err := c.d.take(bytes)
	c.fail(err)
	c.pieces = append(c.pieces, b)
	return b.addr
}

// room reports whether scratch of so many bytes would be had.
func (c *call) room(bytes int64) bool {
	c.d.order.Lock()
	defer c.d.order.Unlock()
	b, err := c.d.take(bytes)
	if err != nil {
		return false
	}
	c.d.arena.release(b, b.stamp)
	return true
}

// clear zeroes bytes at p.
func (c *call) clear(p ptr, bytes int64) {
	if bytes > 0 {
		c.fail(failed("cuMemsetD8Async", cu.MemsetD8Async(cu.DevicePtr(p), 0, bytes, c.d.compute.stream), ""))
	}
}

// move copies bytes within the memory of the device; the two places are apart.
func (c *call) move(dst, src ptr, bytes int64) {
	if bytes > 0 {
		c.fail(failed("cuMemcpyDtoDAsync", cu.MemcpyDtoDAsync(cu.DevicePtr(dst), cu.DevicePtr(src), bytes, c.d.compute.stream), ""))
	}
}

// table copies bytes of the host to scratch, without waiting: src may change at once.
func (c *call) table(src []byte) ptr {
	dst := c.scratch(int64(len(src)))
	c.fail(c.d.tables.send(c.d.compute.stream, dst, src))
	return dst
}

// floatBytes, doubleBytes and intBytes are values as they lie in memory.
func floatBytes(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
func doubleBytes(x []float64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 8*len(x))
}
func intBytes(x []int32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
