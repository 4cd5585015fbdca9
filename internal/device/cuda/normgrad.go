//go:build cuda

package cuda

import "modelpress/internal/device"

// RMSNormGrad: dw[j] += Σ_i dy[i,j]*x[i,j]*r_i, the gradient by the gain of RMSNorm. Scratch: that of ColumnDots and 16 bytes a row.
func (d *Device) RMSNormGrad(dw, dy, x device.Buf, rows, n int, over, eps float32) {
	c := d.begin("RMSNormGrad")
	defer c.end()
	c.checkMean(rows, n, over)
	c.gains(c.out(dw, n), c.in(dy, rows*n), c.in(x, rows*n), rows, n, over, eps, 0)
}

// LayerNormGrad: the gradients by the gain and the bias of LayerNorm, added to dw and db. Scratch: twice that of ColumnDots and 16 bytes a
// row.
func (d *Device) LayerNormGrad(dw, db, dy, x device.Buf, rows, n int, over, eps float32) {
	c := d.begin("LayerNormGrad")
	defer c.end()
	c.checkMean(rows, n, over)
	gain, bias, grad := c.out(dw, n), c.out(db, n), c.in(dy, rows*n)
	c.gains(gain, grad, c.in(x, rows*n), rows, n, over, eps, 1)
	if rows == 0 || n == 0 {
		return
	}
	parts, count := c.columns("columns", "column_sums", rows, n, grad)
	c.addColumns(bias, parts, count, n)
}

// gains adds the gradient by the gain of a norm to dw; centre is 1 for LayerNorm.
func (c *call) gains(dw, dy, x ptr, rows, n int, over, eps float32, centre int) {
	if rows == 0 || n == 0 {
		return
	}
	moments := c.scratch(16 * int64(rows))
	c.rows("normgrad", "norm_moments", rows, n, moments, x, int64(rows), n, over, eps, centre)
	parts, count := c.columns("normgrad", "norm_gains", rows, n, moments, dy, x)
	c.addColumns(dw, parts, count, n)
}

// addColumns adds the sums over all rows to dst.
func (c *call) addColumns(dst, parts ptr, count, n int) {
	c.launch("normgrad", "column_add", [3]int{ceilDiv(n, 32), 1, 1}, [3]int{rowThreads, 1, 1}, 0, dst, parts, count, n)
}
