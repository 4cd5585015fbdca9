package cpu

import (
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// RMSNorm: y[i,:] = x[i,:] / sqrt(Σx[i,:]²/over+eps) * w, rows of width n. y may be x.
func (d *Device) RMSNorm(y, x, w device.Buf, rows, n int, over, eps float32) {
	const op = "RMSNorm"
	num.RMSNorm(f32(op, y, rows*n), f32(op, x, rows*n), f32(op, w, n), rows, n, over, eps, d.For)
}

// LayerNorm: y[i,:] = (x[i,:]-mean)/sqrt(var+eps)*w + b, rows of width n, means over the number over of channels. y may be x.
func (d *Device) LayerNorm(y, x, w, b device.Buf, rows, n int, over, eps float32) {
	const op = "LayerNorm"
	num.LayerNorm(f32(op, y, rows*n), f32(op, x, rows*n), f32(op, w, n), f32(op, b, n), rows, n, over, eps, d.For)
}

// RMSNormBack: the gradient of RMSNorm by its input x. dx may be dy.
func (d *Device) RMSNormBack(dx, dy, x, w device.Buf, rows, n int, over, eps float32) {
	const op = "RMSNormBack"
	num.RMSNormBack(f32(op, dx, rows*n), f32(op, dy, rows*n), f32(op, x, rows*n), f32(op, w, n), rows, n, over, eps, d.For)
}

// LayerNormBack: the gradient of LayerNorm by its input x. dx may be dy.
func (d *Device) LayerNormBack(dx, dy, x, w device.Buf, rows, n int, over, eps float32) {
	const op = "LayerNormBack"
	num.LayerNormBack(f32(op, dx, rows*n), f32(op, dy, rows*n), f32(op, x, rows*n), f32(op, w, n), rows, n, over, eps, d.For)
}

// RMSNormGrad: dw[j] += Σ_i dy[i,j]*x[i,j]*r_i, the gradient by the gain of RMSNorm.
func (d *Device) RMSNormGrad(dw, dy, x device.Buf, rows, n int, over, eps float32) {
	const op = "RMSNormGrad"
	num.RMSNormGrad(f32(op, dw, n), f32(op, dy, rows*n), f32(op, x, rows*n), rows, n, over, eps, d.For)
}

// LayerNormGrad: the gradients by the gain and the bias of LayerNorm, added to dw and db.
func (d *Device) LayerNormGrad(dw, db, dy, x device.Buf, rows, n int, over, eps float32) {
	const op = "LayerNormGrad"
	num.LayerNormGrad(f32(op, dw, n), f32(op, db, n), f32(op, dy, rows*n), f32(op, x, rows*n), rows, n, over, eps, d.For)
}
