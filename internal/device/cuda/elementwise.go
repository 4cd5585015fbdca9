//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// rowThreads is the number of threads of a block of the kernels over rows and vectors (ROW_THREADS in kernels/vector.cuh). maxBlocks is
// how many blocks they get: enough for any device, and few enough that starting them costs nothing.
const (
	rowThreads = 256
	rowWarps   = rowThreads / 32
	maxBlocks  = 1 << 14
)

// mapBlocks is the grid of a kernel over n values, four to a thread.
func mapBlocks(n int) [3]int { return [3]int{min(ceilDiv(n, 4*rowThreads), maxBlocks), 1, 1} }

// tileBlocks is the grid of a kernel over a matrix [rows, n], 128 columns of a row to a warp.
func tileBlocks(rows, n int) [3]int {
	across := ceilDiv(n, 128)
	return [3]int{across, min(ceilDiv(rows, rowWarps), max(1, maxBlocks/max(1, across))), 1}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// each launches a kernel over n values.
func (c *call) each(module, kernel string, n int, args ...any) {
	c.launch(module, kernel, mapBlocks(n), [3]int{rowThreads, 1, 1}, 0, append(args, int64(n))...)
}

// tiles launches a kernel over a matrix [rows, n].
func (c *call) tiles(module, kernel string, rows, n int, args ...any) {
	c.launch(module, kernel, tileBlocks(rows, n), [3]int{rowThreads, 1, 1}, 0, args...)
}

// Gather: y[i,:] = table[ids[i],:], rows of width n.
func (d *Device) Gather(y, table device.Buf, ids []int32, n int) {
	c := d.begin("Gather")
	defer c.end()
	from, kind := c.any(table, 0)
	for i, id := range ids {
		if id < 0 || (int(id)+1)*n > table.Len() {
			panic(fmt.Sprintf("cuda: Gather: row %d of %d elements for place %d, of a table of %d", id, n, i, table.Len()))
		}
	}
	to := c.out(y, len(ids)*n)
	if len(ids) == 0 || n == 0 {
		return
	}
	kernel := [...]string{device.F32: "gather", device.BF16: "gather_bf16", device.F16: "gather_f16"}[kind]
	c.tiles("elementwise", kernel, len(ids), n, to, from, c.table(intBytes(ids)), int64(len(ids)), n)
}

// Add: y += x.
func (d *Device) Add(y, x device.Buf, n int) {
	c := d.begin("Add")
	defer c.end()
	c.each("elementwise", "add", n, c.out(y, n), c.in(x, n))
}

// AddBias: y[i,:] += bias, for rows of width n.
func (d *Device) AddBias(y, bias device.Buf, rows, n int) {
	c := d.begin("AddBias")
	defer c.end()
	c.tiles("elementwise", "add_bias", rows, n, c.out(y, rows*n), c.in(bias, n), int64(rows), n)
}

// ScaleColumns: y[i,j] = x[i,j]*z[j], rows of width n. y may be x.
func (d *Device) ScaleColumns(y, x device.Buf, z []float32, rows, n int) {
	c := d.begin("ScaleColumns")
	defer c.end()
	if len(z) < n {
		panic(fmt.Sprintf("cuda: ScaleColumns: %d factors for %d columns", len(z), n))
	}
	to, from := c.out(y, rows*n), c.in(x, rows*n)
	if rows == 0 || n == 0 {
		return
	}
	c.tiles("elementwise", "scale_columns", rows, n, to, from, c.table(floatBytes(z[:n])), int64(rows), n)
}
