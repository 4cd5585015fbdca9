//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// columnChunk is how many rows one sum of a column is over, unless that makes more than columnParts sums in all.
const (
	columnChunk = 128
	columnParts = 1 << 20
)

// chunksOf cuts rows for the sums of n columns: a function of the sizes alone.
func chunksOf(rows, n int) (size, count int) {
	count = max(1, min(ceilDiv(rows, columnChunk), columnParts/max(1, n)))
	size = max(rowWarps, ceilDiv(ceilDiv(rows, count), rowWarps)*rowWarps)
	return size, ceilDiv(rows, size)
}

// columns sums what a kernel makes of matrices [rows, n] column by column, in chunks of rows; the sums [count, n] are scratch of at most
// 8*max(n, 2^20) bytes.
func (c *call) columns(module, kernel string, rows, n int, args ...any) (parts ptr, count int) {
	size, count := chunksOf(rows, n)
	parts = c.scratch(8 * int64(count) * int64(n))
	args = append(append([]any{parts}, args...), int64(rows), n, size)
	c.launch(module, kernel, [3]int{count, ceilDiv(n, 128), 1}, [3]int{rowThreads, 1, 1}, 0, args...)
	return parts, count
}

// totals fetches the sums over all rows.
func (c *call) totals(parts ptr, count, n int) []float64 {
	sums, host := c.scratch(8*int64(n)), make([]float64, n)
	c.launch("columns", "column_totals", [3]int{ceilDiv(n, 32), 1, 1}, [3]int{rowThreads, 1, 1}, 0, sums, parts, count, n)
	c.fetch(doubleBytes(host), sums)
	return host
}

// ColumnDots: dst[j] += Σ_i a[i,j]*b[i,j], in float64; b may be nil for ones.
func (d *Device) ColumnDots(dst []float64, a, b device.Buf, rows, n int) {
	c := d.begin("ColumnDots")
	defer c.end()
	if len(dst) < n {
		panic(fmt.Sprintf("cuda: ColumnDots: %d sums for %d columns", len(dst), n))
	}
	kernel, args := "column_sums", []any{c.in(a, rows*n)}
	if b != nil {
		kernel, args = "column_dots", append(args, c.in(b, rows*n))
	}
	if rows == 0 || n == 0 {
		return
	}
	parts, count := c.columns("columns", kernel, rows, n, args...)
	for j, v := range c.totals(parts, count, n) {
		dst[j] += v
	}
}
