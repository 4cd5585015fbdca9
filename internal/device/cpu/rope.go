package cpu

import (
	"fmt"

	"modelpress/internal/device"
)

// RoPE rotates x [T, heads*K] in place in the half-split layout: pair (j, j+K/2) of each head by the angle whose cosine
// and sine stand at [t, j].
func (d *Device) RoPE(x device.Buf, t, heads, k int, cos, sin []float32) {
	v, half := f32("RoPE", x, t*heads*k), k/2
	if len(cos) < t*half || len(sin) < t*half || k%2 != 0 {
		panic(fmt.Sprintf("cpu: RoPE: tables of %d and %d for %d positions of head dim %d", len(cos), len(sin), t, k))
	}
	d.rows(t, heads*k, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			c, s := cos[i*half:(i+1)*half], sin[i*half:(i+1)*half]
			for h := range heads {
				rotate(v[(i*heads+h)*k:(i*heads+h+1)*k], c, s)
			}
		}
	})
}

func rotate(head, cos, sin []float32) {
	a, b := head[:len(cos)], head[len(cos):]
	b = b[:len(cos)]
	for j, c := range cos {
		s, x, y := sin[j], a[j], b[j]
		a[j] = float32(x*c) - float32(y*s)
		b[j] = float32(y*c) + float32(x*s)
	}
}
