//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// MixHeads: y = alpha[g]*a + (1-alpha[g])*b for the query heads of each KV head g; b may be nil. y may be a or b.
func (d *Device) MixHeads(y, a, b device.Buf, alpha []float32, s device.AttnShape) {
	c := d.begin("MixHeads")
	defer c.end()
	c.checkMix(s, len(alpha))
	n := s.H * s.K
	to, from, other := c.out(y, s.T*n), c.in(a, s.T*n), ptr(0)
	if b != nil {
		other = c.in(b, s.T*n)
	}
	if s.T*n == 0 {
		return
	}
	c.tiles("mix", "mix_heads", s.T, n, to, from, other, c.table(floatBytes(alpha)), int64(s.T), n, n/s.G)
}

// MixSlopes: dst[g] = Σ dy·(a-b) over rows and the query heads of KV head g, in float64: columns first, then those of a group in order.
func (d *Device) MixSlopes(dst []float64, dy, a, b device.Buf, s device.AttnShape) {
	c := d.begin("MixSlopes")
	defer c.end()
	c.checkMix(s, len(dst))
	n := s.H * s.K
	grad, x, z := c.in(dy, s.T*n), c.in(a, s.T*n), c.in(b, s.T*n)
	clear(dst)
	if s.T*n == 0 {
		return
	}
	parts, count := c.columns("columns", "column_slopes", s.T, n, grad, x, z)
	for j, v := range c.totals(parts, count, n) {
		dst[j/(n/s.G)] += v
	}
}

func (c *call) checkMix(s device.AttnShape, gates int) {
	if s.G <= 0 || s.H%s.G != 0 || gates != s.G {
		panic(fmt.Sprintf("cuda: %s: %d gates, %d query heads and %d KV heads", c.op, gates, s.H, s.G))
	}
}
