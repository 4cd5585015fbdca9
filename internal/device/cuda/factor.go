//go:build cuda

package cuda

import "fmt"

const (
	factorBlock = 64  // rows that are factored at a time
	factorStrip = 256 // rows after which the rest of the matrix is brought up to date
)

// Factor factors H with diagonal in place of its own, above its diagonal; see kernels/cholesky.cu. It is all in f64, and in blocks of a
// fixed size, so that the bits are the same on every device.
func (g *gram) Factor(order []int32, diagonal []float64, dead []bool) bool {
	n := g.n
	if order != nil && len(order) != n || len(diagonal) != n || len(dead) != n {
		panic(fmt.Sprintf("cuda: a factor of width %d from %d places, %d diagonal values and %d dead columns", n, len(order), len(diagonal), len(dead)))
	}
	g.order, g.dead = order, make([]byte, n)
	for i, d := range dead {
		if d {
			g.dead[i] = 1
		}
	}
	c := g.d.begin("Gram.Factor")
	defer c.end()
	h, failed := c.out(g.h, 2*n*n), c.zeroed(4)
	c.launch("cholesky", "factor_fill", c.grid(n, n), threads256, 0, h, c.table(doubleBytes(diagonal)), c.table(g.dead), g.places(c), n)
	for k := 0; k < n; k += factorStrip {
		g.strip(c, h, failed, k, min(k+factorStrip, n))
	}
	result := []int32{0}
	c.fetch(intBytes(result), failed)
	return result[0] == 0
}

// places is the order of the columns on the device, 0 where they stay as they lie.
func (g *gram) places(c *call) ptr {
	if g.order == nil {
		return 0
	}
	return c.table(intBytes(g.order))
}

// strip factors rows [k0, k1) and brings those below up to date.
func (g *gram) strip(c *call, h, failed ptr, k0, k1 int) {
	n := g.n
	update := func(i0, i1, p0, depth int) {
		if i0 < i1 {
			c.launch("cholesky", "factor_update", [3]int{blocks(int64(n-i0), 64), blocks(int64(i1-i0), 64), 1}, [3]int{128, 1, 1}, 0, h, failed, n, i0, i1, p0, depth)
		}
	}
	for k := k0; k < k1; k += factorBlock {
		count := min(factorBlock, k1-k)
		c.launch("cholesky", "factor_block", [3]int{1, 1, 1}, threads256, 0, h, failed, n, k, count)
		if rest := n - k - count; rest > 0 {
			c.launch("cholesky", "factor_solve", [3]int{blocks(int64(rest), 128), 1, 1}, [3]int{128, 1, 1}, 0, h, failed, n, k)
			update(k+count, k1, k, count)
		}
	}
	update(k1, n, k0, k1-k0)
}
