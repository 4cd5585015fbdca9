//go:build cuda

package cuda

import (
	"modelpress/internal/device"
)

// RTN rounds each weight of w [out, in] to the nearest value of its group's grid. Scratch is that of rounding, and 4·out·in bytes where w is
// not in f32.
func (d *Device) RTN(dst, w device.Buf, out, in int, r device.Rounding) (*device.Rounded, error) {
	c := d.begin("RTN")
	defer c.end()
	z := c.rounding(out, in, r)
	p, kind := c.any(w, c.count(out, in))
	if kind != device.F32 {
		f32 := c.scratch(4 * int64(out) * int64(in))
		c.convert(f32, device.F32, p, kind, out*in)
		p = f32
	}
	z.grids(p, 0)
	c.launch("round", "round_codes", c.grid(in, out), threads256, 0, z.codes, p, z.scales, z.zeros, out, in, r.Group, z.low(), -z.low()-1)
	z.values(dst)
	return z.result(in, 1)
}

// Distance returns Σ (a-b)² and Σ a² over [rows, n].
func (d *Device) Distance(a, b device.Buf, rows, n int) (far, size float64) {
	c := d.begin("Distance")
	defer c.end()
	x, kindX := c.any(a, c.count(rows, n))
	y, kindY := c.any(b, c.count(rows, n))
	sums, sizes := c.scratch(8*int64(rows)), c.scratch(8*int64(rows))
	c.launch("gram", "distance_rows", warps(rows), threads256, 0, sums, sizes, x, int(kindX), y, int(kindY), rows, n)
	return sumOf(c.doubles(sums, rows)), sumOf(c.doubles(sizes, rows))
}

// NotFinite returns the index of the first element of w [rows, n] that is NaN or infinite, -1 where there is none.
func (d *Device) NotFinite(w device.Buf, rows, n int) int {
	c := d.begin("NotFinite")
	defer c.end()
	p, kind := c.any(w, c.count(rows, n))
	row, col := c.first(rows, func(first ptr) {
		c.launch("gram", "matrix_check", warps(rows), threads256, 0, first, p, int(kind), rows, n)
	})
	if row < 0 {
		return -1
	}
	return row*n + col
}
