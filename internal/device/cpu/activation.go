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
