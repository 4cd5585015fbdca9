//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// Copy: dst[off:off+n] = src[from:from+n], both of one kind. The two ranges must not overlap.
func (d *Device) Copy(dst device.Buf, off int, src device.Buf, from, n int) {
	c := d.begin("Copy")
	defer c.end()
	x, y := d.own(c.op, src), d.own(c.op, dst)
	if x.kind != y.kind {
		panic(fmt.Sprintf("cuda: Copy: from kind %d to kind %d", x.kind, y.kind))
	}
	x.check(c.op, from, n)
	y.check(c.op, off, n)
	size := x.kind.Size()
	bytes := int64(n) * int64(size)
	to, at := c.use(y, true)+ptr(off*size), c.use(x, false)+ptr(from*size)
	if to < at+ptr(bytes) && at < to+ptr(bytes) {
		panic(fmt.Sprintf("cuda: Copy: %d elements to a place that they overlap", n))
	}
	c.move(to, at, bytes)
}

// Zero sets n elements from off on to zero.
func (d *Device) Zero(b device.Buf, off, n int) {
	c := d.begin("Zero")
	defer c.end()
	o := d.own(c.op, b)
	o.check(c.op, off, n)
	c.clear(c.use(o, true)+ptr(off*o.kind.Size()), int64(n)*int64(o.kind.Size()))
}
