//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// narrowRow is the width up to which a warp takes a row; a block takes wider ones.
const narrowRow = 1024

// rows launches the kernel for narrow or for wide rows.
func (c *call) rows(module, kernel string, rows, n int, args ...any) {
	blocks := rows
	if n <= narrowRow {
		kernel, blocks = kernel+"_warp", ceilDiv(rows, rowWarps)
	} else {
		kernel += "_block"
	}
	c.launch(module, kernel, [3]int{min(blocks, maxBlocks), 1, 1}, [3]int{rowThreads, 1, 1}, 0, args...)
}

// checkMean refuses a mean over no channels.
func (c *call) checkMean(rows, n int, over float32) {
	if rows < 0 || n < 0 || rows*n > 0 && !(over > 0) {
		panic(fmt.Sprintf("cuda: %s: %d rows of %d values, a mean over %v channels", c.op, rows, n, over))
	}
}

// RMSNorm: y[i,:] = x[i,:] / sqrt(Σx[i,:]²/over+eps) * w, rows of width n. y may be x.
func (d *Device) RMSNorm(y, x, w device.Buf, rows, n int, over, eps float32) {
	c := d.begin("RMSNorm")
	defer c.end()
	c.checkMean(rows, n, over)
	c.rows("norm", "rms_norm", rows, n, c.out(y, rows*n), c.in(x, rows*n), c.in(w, n), int64(rows), n, over, eps)
}

// LayerNorm: y[i,:] = (x[i,:]-mean)/sqrt(var+eps)*w + b, rows of width n, means over the number over of channels. y may be x.
func (d *Device) LayerNorm(y, x, w, b device.Buf, rows, n int, over, eps float32) {
	c := d.begin("LayerNorm")
	defer c.end()
	c.checkMean(rows, n, over)
	c.rows("norm", "layer_norm", rows, n, c.out(y, rows*n), c.in(x, rows*n), c.in(w, n), c.in(b, n), int64(rows), n, over, eps)
}

// RMSNormBack: the gradient of RMSNorm by its input x. dx may be dy.
func (d *Device) RMSNormBack(dx, dy, x, w device.Buf, rows, n int, over, eps float32) {
	d.normBack("RMSNormBack", "rms_norm_back", dx, dy, x, w, rows, n, over, eps)
}

// LayerNormBack: the gradient of LayerNorm by its input x. dx may be dy.
func (d *Device) LayerNormBack(dx, dy, x, w device.Buf, rows, n int, over, eps float32) {
	d.normBack("LayerNormBack", "layer_norm_back", dx, dy, x, w, rows, n, over, eps)
}

func (d *Device) normBack(op, kernel string, dx, dy, x, w device.Buf, rows, n int, over, eps float32) {
	c := d.begin(op)
	defer c.end()
	c.checkMean(rows, n, over)
	c.rows("normback", kernel, rows, n, c.out(dx, rows*n), c.in(dy, rows*n), c.in(x, rows*n), c.in(w, n), int64(rows), n, over, eps)
}
