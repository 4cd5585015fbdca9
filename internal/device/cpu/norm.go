package cpu

import (
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// RMSNorm: y[i,:] = x[i,:] / sqrt(mean(x[i,:]²)+eps) * w, rows of width n. y may be x.
func (d *Device) RMSNorm(y, x, w device.Buf, rows, n int, eps float32) {
	const op = "RMSNorm"
	num.RMSNorm(f32(op, y, rows*n), f32(op, x, rows*n), f32(op, w, n), rows, n, eps, d.For)
}

// LayerNorm: y[i,:] = (x[i,:]-mean)/sqrt(var+eps)*w + b, rows of width n. y may be x.
func (d *Device) LayerNorm(y, x, w, b device.Buf, rows, n int, eps float32) {
	const op = "LayerNorm"
	num.LayerNorm(f32(op, y, rows*n), f32(op, x, rows*n), f32(op, w, n), f32(op, b, n), rows, n, eps, d.For)
}

// RMSNormBack: the gradient of RMSNorm by its input x. dx may be dy.
func (d *Device) RMSNormBack(dx, dy, x, w device.Buf, rows, n int, eps float32) {
	const op = "RMSNormBack"
	num.RMSNormBack(f32(op, dx, rows*n), f32(op, dy, rows*n), f32(op, x, rows*n), f32(op, w, n), rows, n, eps, d.For)
}

// LayerNormBack: the gradient of LayerNorm by its input x. dx may be dy.
func (d *Device) LayerNormBack(dx, dy, x, w device.Buf, rows, n int, eps float32) {
	const op = "LayerNormBack"
	num.LayerNormBack(f32(op, dx, rows*n), f32(op, dy, rows*n), f32(op, x, rows*n), f32(op, w, n), rows, n, eps, d.For)
}
