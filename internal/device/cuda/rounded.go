//go:build cuda

package cuda

import "modelpress/internal/device"

// rounded remembers the bfloat16 of the last x that was multiplied, 2 bytes an element: the projections of one input round it once. It goes
// when another x is rounded, when the buffer is freed, and where memory is short. Guarded by Device.order.
type rounded struct {
	store   *store
	version uint64
	from    ptr
	n       int
	block   *block
}

// rounded returns n elements of x, which stand at from, in bfloat16.
func (c *call) rounded(x device.Buf, from ptr, n int) ptr {
	d, s := c.d, c.d.own(c.op, x).store
	d.order.Lock()
	defer d.order.Unlock()
	if r := d.rounded; r.store == s && r.version == s.version && r.from == from && r.n == n {
		return r.block.addr
	}
	d.forgetAll()
	b, err := d.arena.alloc(2 * int64(n))
	c.fail(err)
	d.rounded = rounded{s, s.version - 1, from, n, b} // of no use until it is there
	c.convert(b.addr, device.BF16, from, device.F32, n)
	d.rounded.version = s.version
	return b.addr
}

// forget drops what is remembered of a store, forgetAll of any; it reports whether that was something. The caller holds order.
func (d *Device) forget(s *store) {
	if d.rounded.store == s {
		d.forgetAll()
	}
}

func (d *Device) forgetAll() bool {
	if d.rounded.store == nil {
		return false
	}
	d.arena.release(d.rounded.block, d.compute.tick)
	d.rounded = rounded{}
	return true
}
