//go:build cuda

package cuda

import (
	"fmt"
	"slices"

	"modelpress/internal/device"
)

// SparseGPT makes w [out, n] sparse under the last Factor, whose columns are in the order they lie in. Scratch is that of columns, for
// blocks of s.Block, and 4·out·s.Block bytes of scores.
func (g *gram) SparseGPT(dst, w device.Buf, out int, s device.Sparsity) (loss, moved float64) {
	n := g.n
	if g.order != nil || s.Block < 1 || s.Block > 1024 || s.Group < 0 || s.Group > 0 && (32%s.Group != 0 || s.Block%s.Group != 0 || n%s.Group != 0) {
		panic(fmt.Sprintf("cuda: SparseGPT of width %d under %+v", n, s))
	}
	c, h, _ := g.begin("SparseGPT")
	defer c.end()
	p := g.columns(c, h, w, out, min(s.Block, n))
	p.start(0, 0)
	q := &selection{columns: p, dead: c.table(g.dead), size: c.table(floatBytes(g.sizes(c.doubles(p.root, n)))), keys: c.scratch(4 * int64(out) * int64(p.block))}
	kind := int(c.kindOf(dst, out*n))
	to := c.use(c.d.own(c.op, dst), true)
	p.each(func(i, count int) {
		args := []any{p.work, p.now, p.corner, p.root, q.size, q.dead, q.keys, to, p.loss, p.moved, out, n, i, count, p.width, kind, s.Stay, s.Group}
		if s.Group == 0 {
			p.strips("sparse_rate", 4, args...)
			q.least(int64(out)*int64(count), int64(s.Zeros(out*(i+count))-s.Zeros(out*i)))
		}
		p.strips("sparse_prune", 4, args...)
	})
	return p.losses()
}

// kindOf returns the kind of a buffer of at least n elements.
func (c *call) kindOf(b device.Buf, n int) device.Kind {
	o := c.d.own(c.op, b)
	o.check(c.op, 0, n)
	return o.kind
}

// sizes returns what |w| is multiplied by for its score, by column: the diagonal of R, relative to the largest value, 0 for dead columns.
func (g *gram) sizes(root []float64) []float32 {
	for i, dead := range g.dead {
		if dead != 0 {
			root[i] = 0
		}
	}
	most, size := slices.Max(root), make([]float32, len(root))
	for i, v := range root {
		size[i] = float32(v / most)
	}
	return size
}

// selection is what SparseGPT chooses weights by.
type selection struct {
	*columns
	dead, size, keys ptr
}

// least overwrites so many keys by 1 for the k least of them, and by 0 for the others; see kernels/select.cu.
func (q *selection) least(total, k int64) {
	if k == 0 {
		q.clear(q.keys, 4*total)
		return
	}
	const part = 4096
	parts := blocks(total, part)
	grid, one := [3]int{parts, 1, 1}, [3]int{1, 1, 1}
	wanted, counts, offsets := q.scratch(16), q.scratch(4*16*int64(parts)), q.scratch(8*int64(parts))
	q.launch("select", "select_begin", one, one, 0, wanted, k)
	for shift := 28; shift >= 0; shift -= 4 {
		var last ptr
		if shift == 0 {
			last = offsets
		}
		q.launch("select", "select_count", grid, threads256, 0, counts, q.keys, wanted, total, shift)
		q.launch("select", "select_digit", one, threads256, 0, wanted, last, counts, parts, shift)
	}
	q.launch("select", "select_mark", grid, threads256, 0, q.keys, wanted, offsets, total)
}
