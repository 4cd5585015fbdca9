//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

var _ device.Rotator = (*Device)(nil)

// RoPE rotates x [T, heads*K] in place in the half-split layout: pair (j, j+K/2) of each head by the angle whose cosine and sine stand
// at [t, j]. Scratch: 4*T*K bytes for the tables, which come from the host each time; Rotate does without.
func (d *Device) RoPE(x device.Buf, t, heads, k int, cos, sin []float32) {
	c := d.begin("RoPE")
	defer c.end()
	n := c.checkRotation(t, heads, k, len(cos), len(sin))
	to := c.out(x, t*heads*k)
	if n*heads > 0 {
		c.rotate(to, c.table(floatBytes(cos[:n])), c.table(floatBytes(sin[:n])), t, heads, k/2)
	}
}

// Rotate implements device.Rotator.
func (d *Device) Rotate(x device.Buf, t, heads, k int, cos, sin device.Buf) {
	c := d.begin("Rotate")
	defer c.end()
	n := c.checkRotation(t, heads, k, cos.Len(), sin.Len())
	c.rotate(c.out(x, t*heads*k), c.in(cos, n), c.in(sin, n), t, heads, k/2)
}

// checkRotation returns the length of the tables.
func (c *call) checkRotation(t, heads, k, cos, sin int) int {
	n := t * (k / 2)
	if t < 0 || heads < 0 || k < 0 || k%2 != 0 || cos < n || sin < n {
		panic(fmt.Sprintf("cuda: %s: tables of %d and %d for %d positions of head dim %d", c.op, cos, sin, t, k))
	}
	return n
}

// rotate takes as many rows at once as the kernel can number.
func (c *call) rotate(x, cos, sin ptr, t, heads, half int) {
	groups := heads * ceilDiv(half, 4) // of four pairs, in a row
	if groups == 0 {
		return
	}
	most := max(1, (1<<30)/groups)
	for lo := 0; lo < t; lo += most {
		rows := min(most, t-lo)
		c.launch("rope", "rope", [3]int{min(ceilDiv(rows*groups, rowThreads), maxBlocks), 1, 1}, [3]int{rowThreads, 1, 1}, 0,
			x+ptr(8*lo*heads*half), cos+ptr(4*lo*half), sin+ptr(4*lo*half), rows, heads, half)
	}
}
