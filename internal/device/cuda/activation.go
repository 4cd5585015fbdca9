//go:build cuda

package cuda

import "modelpress/internal/device"

// SiLUMul: y = silu(gate)*up. y may be gate or up.
func (d *Device) SiLUMul(y, gate, up device.Buf, n int) {
	c := d.begin("SiLUMul")
	defer c.end()
	c.each("activation", "silu_mul", n, c.out(y, n), c.in(gate, n), c.in(up, n))
}

// SiLUMulBack: the gradients of SiLUMul by gate and up. dgate may be gate, dup up.
func (d *Device) SiLUMulBack(dgate, dup, dy, gate, up device.Buf, n int) {
	c := d.begin("SiLUMulBack")
	defer c.end()
	c.each("activation", "silu_mul_back", n, c.out(dgate, n), c.out(dup, n), c.in(dy, n), c.in(gate, n), c.in(up, n))
}

// GELU: y = gelu(x), by the tanh form where tanh is set, else by erf. y may be x.
func (d *Device) GELU(y, x device.Buf, n int, tanh bool) {
	c := d.begin("GELU")
	defer c.end()
	kernel := "gelu_erf"
	if tanh {
		kernel = "gelu_tanh"
	}
	c.each("activation", kernel, n, c.out(y, n), c.in(x, n))
}

// GELUBack: the gradient of GELU by its input x. dx may be dy or x.
func (d *Device) GELUBack(dx, dy, x device.Buf, n int, tanh bool) {
	c := d.begin("GELUBack")
	defer c.end()
	kernel := "gelu_erf_back"
	if tanh {
		kernel = "gelu_tanh_back"
	}
	c.each("activation", kernel, n, c.out(dx, n), c.in(dy, n), c.in(x, n))
}
