//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// mixElements is how many elements are rotated at a time, where blocks are not larger.
const mixElements = 64 << 20

// Mix replaces w [rows, cols] by Lᵀ·w·diag(gain)·R; see kernels/hadamard.cu. Memory of the device: 4·rows·cols bytes, 16 for each element that
// is rotated at a time, and the matrices.
func (d *Device) Mix(w []float32, rows, cols int, gain []float32, left, right []device.Orthogonal) (err error) {
	if len(w) != rows*cols || gain != nil && len(gain) != cols || !fits(left, rows) || !fits(right, cols) {
		panic(fmt.Sprintf("cuda: Mix of %d values [%d, %d], %d gains, %d and %d blocks", len(w), rows, cols, len(gain), len(left), len(right)))
	}
	if len(w) == 0 {
		return nil
	}
	defer func() { // who reads weights may be on a thread of his own
		if p := recover(); p != nil {
			f, ok := p.(*device.Fault)
			if !ok {
				panic(p)
			}
			err = f
		}
	}()
	buf, err := d.Alloc(device.F32, len(w))
	if err != nil {
		return err
	}
	defer buf.Free()
	d.Upload(buf, 0, w)
	d.mix(buf, rows, cols, gain, left, right)
	d.Download(w, buf, 0)
	return nil
}

// fits reports whether blocks of one size make n.
func fits(blocks []device.Orthogonal, n int) bool {
	for _, o := range blocks {
		if o.N != blocks[0].N || o.Values != nil && len(o.Values) != o.N*o.N || o.Values == nil && (len(o.Signs) != o.N || !num.HadamardSizeOK(o.N)) {
			return false
		}
	}
	return blocks == nil || len(blocks)*blocks[0].N == n
}

// mix rotates columns of a matrix on the device, as many whole blocks at a time as mixElements are.
func (d *Device) mix(w device.Buf, rows, cols int, gain []float32, left, right []device.Orthogonal) {
	c := d.begin("Mix")
	defer c.end()
	unit := 1
	if right != nil {
		unit = right[0].N
	}
	step := min(cols, max(1, mixElements/rows/unit)*unit)
	p := c.out(w, rows*cols)
	var gains ptr
	if gain != nil {
		gains = c.table(floatBytes(gain))
	}
	m := &mixing{call: c, x: c.scratch(8 * int64(rows) * int64(step)), y: c.scratch(8 * int64(rows) * int64(step))}
	for at := 0; at < cols; at += step {
		count := min(step, cols-at)
		c.launch("hadamard", "mix_load", c.grid(count, rows), threads256, 0, m.x, p, gains, rows, cols, at, count)
		if right != nil {
			m.along(right[at/unit:(at+count)/unit], rows, 1)
		}
		if left != nil {
			m.along(left, 1, count)
		}
		c.launch("hadamard", "mix_store", c.grid(count, rows), threads256, 0, p, m.x, rows, cols, at, count)
	}
}

// mixing is Mix under way: x is rotated, y is room of its size.
type mixing struct {
	*call
	x, y ptr
}

// along multiplies x [outer, len(list), N, inner] by matrices along N.
func (m *mixing) along(list []device.Orthogonal, outer, inner int) {
	n := list[0].N
	total := int64(outer) * int64(len(list)) * int64(n) * int64(inner)
	if list[0].Values != nil {
		for i := range list {
			m.product(&list[i], i, len(list), outer, inner)
		}
		m.x, m.y = m.y, m.x
		return
	}
	var signs []float64
	for _, o := range list {
		signs = append(signs, o.Signs...)
	}
	all := [3]int{blocks(total, 256), 1, 1}
	m.launch("hadamard", "mix_scale", all, threads256, 0, m.x, m.table(doubleBytes(signs)), 1.0, total, len(list), n, int64(inner))
	p, k := num.HadamardFactor(n)
	if k > 1 {
		m.launch("hadamard", "mix_paley", all, threads256, 0, m.y, m.x, m.table(doubleBytes(p)), total, n, k, int64(inner))
		m.x, m.y = m.y, m.x
	}
	for h := 1; h < n/k; {
		levels := 1
		for levels < 4 && h<<levels < n/k {
			levels++
		}
		grid := [3]int{blocks(total>>levels, 256), 1, 1}
		m.launch("hadamard", fmt.Sprintf("mix_walsh_%d", levels), grid, threads256, 0, m.x, total, h, int64(inner))
		h <<= levels
	}
	m.launch("hadamard", "mix_scale", all, threads256, 0, m.x, ptr(0), 1/math.Sqrt(float64(n)), total, len(list), n, int64(inner))
}

// product sets block i of y to that of x times a matrix: x·Q along the columns of rows, Qᵀ·x along the rows.
func (m *mixing) product(o *device.Orthogonal, i, count, outer, inner int) {
	n := o.N
	q := m.table(doubleBytes(o.Values))
	rows, cols, width := outer, n, int64(count)*int64(n)
	at := ptr(8 * i * n * inner)
	args := []any{int64(width), int64(width), int64(1), int64(n), int64(1)} // ldc, then x by row and column, Q by row and column
	a, b := m.x+at, q
	if outer == 1 && inner > 1 {
		rows, cols, width = n, inner, int64(inner)
		a, b = q, m.x+at
		args = []any{width, int64(1), int64(n), width, int64(1)} // Q by column, then by row
	}
	args = append([]any{m.y + at, a, b, rows, cols, n}, args...)
	m.launch("hadamard", "mix_product", [3]int{blocks(int64(cols), 64), blocks(int64(rows), 64), 1}, [3]int{128, 1, 1}, 0, args...)
}
