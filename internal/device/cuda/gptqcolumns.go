//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// columns carries a matrix [out, n] through its columns, a block at a time. Scratch is 4·out·(n+width) bytes of weights, 4·width·(n+width)
// of the factor and 16·out+8·n of vectors.
type columns struct {
	*call
	out, n, block int
	width         int // columns of a block in memory
	h, order      ptr // the factor, and its places

	weights       ptr
	kind          device.Kind
	work, now     ptr // [out, n] and [out, width]: see kernels/gptq.cu
	panel, corner ptr
	root          ptr // by place: the diagonal of R
	loss, moved   ptr // by row
}

// columns begins with weights w [out, n] of any kind and the last factor.
func (g *gram) columns(c *call, h ptr, w device.Buf, out, block int) *columns {
	n := g.n
	if g.dead == nil {
		panic(fmt.Sprintf("cuda: %s without a factor", c.op))
	}
	p := &columns{call: c, out: out, n: n, block: block, width: (block + 127) / 128 * 128, h: h, order: g.places(c)}
	p.weights, p.kind = c.any(w, c.count(out, n))
	p.work, p.now = c.scratch(4*int64(out)*int64(n)), c.scratch(4*int64(out)*int64(p.width))
	p.panel, p.corner = c.scratch(4*int64(block)*int64(n)), c.scratch(4*int64(p.width)*int64(p.width))
	p.root, p.loss, p.moved = c.scratch(8*int64(n)), c.zeroed(8*int64(out)), c.zeroed(8*int64(out))
	c.launch("cholesky", "factor_roots", [3]int{blocks(int64(n), 256), 1, 1}, threads256, 0, p.root, h, n)
	return p
}

// start copies the weights to work, in an order of columns, with dead columns as zeros; both may be 0.
func (p *columns) start(order, dead ptr) {
	p.launch("gptq", "gptq_start", p.grid(p.n, p.out), threads256, 0, p.work, p.weights, int(p.kind), order, dead, p.out, p.n)
}

// each runs body for every block of count columns from i on, once now holds what they are best replaced by for the errors before them.
func (p *columns) each(body func(i, count int)) {
	out, n := p.out, p.n
	for i := 0; i < n; i += p.block {
		count := min(p.block, n-i)
		p.launch("gptq", "gptq_block", [3]int{out, 1, 1}, [3]int{p.width, 1, 1}, 0, p.now, p.work, out, n, i, count, p.width)
		if i > 0 {
			p.launch("cholesky", "factor_panel", p.grid(i, count), threads256, 0, p.panel, p.h, n, i, count)
			p.gemm(gemm{m: out, n: count, k: i, c: p.now, a: p.work, b: p.panel, tb: true, lda: n, ldc: p.width, beta: 1})
		}
		p.launch("cholesky", "factor_corner", [3]int{p.width, 1, 1}, [3]int{p.width, 1, 1}, 0, p.corner, p.h, n, i, count, p.width)
		body(i, count)
	}
}

// strips launches a kernel for all rows, with 32*held columns in registers; see kernels/strip.cuh.
func (p *columns) strips(kernel string, held int, args ...any) {
	module := "gptq"
	if kernel == "sparse_rate" || kernel == "sparse_prune" {
		module = "sparse"
	}
	shared := 4 * (32*32*held + 4*(4*32*held+4*p.width))
	p.launch(module, kernel, [3]int{blocks(int64(p.out), 16), 1, 1}, [3]int{128, 1, 1}, shared, args...)
}

// losses fetches what the rows have lost and moved in all.
func (p *columns) losses() (loss, moved float64) {
	return sumOf(p.doubles(p.loss, p.out)), sumOf(p.doubles(p.moved, p.out))
}
