package cpu

import (
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// SiLUMul: y = silu(gate)*up. y may be gate or up.
func (d *Device) SiLUMul(y, gate, up device.Buf, n int) {
	const op = "SiLUMul"
	num.SiLUMul(f32(op, y, n), f32(op, gate, n), f32(op, up, n), n, d.For)
}

// GELU: y = gelu(x), by the tanh form where tanh is set, else by erf. y may be x.
func (d *Device) GELU(y, x device.Buf, n int, tanh bool) {
	num.GELU(f32("GELU", y, n), f32("GELU", x, n), n, tanh, d.For)
}

// SiLUMulBack: the gradients of SiLUMul by gate and up. dgate may be gate, dup up.
func (d *Device) SiLUMulBack(dgate, dup, dy, gate, up device.Buf, n int) {
	const op = "SiLUMulBack"
	num.SiLUMulBack(f32(op, dgate, n), f32(op, dup, n), f32(op, dy, n), f32(op, gate, n), f32(op, up, n), n, d.For)
}

// GELUBack: the gradient of GELU by its input x. dx may be dy or x.
func (d *Device) GELUBack(dx, dy, x device.Buf, n int, tanh bool) {
	const op = "GELUBack"
	num.GELUBack(f32(op, dx, n), f32(op, dy, n), f32(op, x, n), n, tanh, d.For)
}
