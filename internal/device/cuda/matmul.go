//go:build cuda

package cuda

import (
	"fmt"
	"math/bits"

	"modelpress/internal/device"
)

// Products are cut into pieces of sizes that depend on the shapes alone, so that the bits do not depend on the memory that is free. Operands
// in another kind than they are multiplied in are converted: a piece of a weight at a time to at most 256 MiB of scratch, of x to 1 GiB.
const (
	weightPiece = 64 << 20  // elements of a weight that are converted at a time
	rowsPiece   = 512 << 20 // elements of x or y that are multiplied at a time
)

// pieceSizes are those, smaller in tests.
type pieceSizes struct{ weight, rows int }

// MatMulNT: y[M,N] = x[M,Kd] · w[N,Kd]ᵀ + beta*y, both operands rounded to bfloat16 first in the class of bfloat16.
func (d *Device) MatMulNT(y, x, w device.Buf, m, n, kd int, beta float32) {
	c := d.begin("MatMulNT")
	defer c.end()
	as := device.F32
	if d.bf16 {
		as = device.BF16
	}
	weights := c.weights(w, n, kd, as)
	from, to := c.in(x, c.count(m, kd)), c.out(y, c.count(m, n))
	pieces(m, max(n, kd), d.pieces.rows, func(row, rows int) {
		a := from + ptr(4*row*kd)
		if as == device.BF16 {
			a = c.rounded(x, a, rows*kd)
		}
		weights.each(func(b ptr, column, columns int) {
			c.gemm(gemm{m: rows, n: columns, k: kd, c: to + ptr(4*(row*n+column)), a: a, b: b, tb: true, ldc: n, kind: as, beta: beta})
		})
	})
}

// MatMulNN: y[M,Kd] = x[M,N] · w[N,Kd] + beta*y, in f32 in every class.
func (d *Device) MatMulNN(y, x, w device.Buf, m, n, kd int, beta float32) {
	c := d.begin("MatMulNN")
	defer c.end()
	weights := c.weights(w, n, kd, device.F32)
	from, to := c.in(x, c.count(m, n)), c.out(y, c.count(m, kd))
	pieces(m, max(n, kd), d.pieces.rows, func(row, rows int) {
		g := gemm{m: rows, n: kd, c: to + ptr(4*row*kd), lda: n, kind: device.F32, beta: beta}
		if n == 0 {
			c.gemm(g)
		}
		weights.each(func(b ptr, at, count int) {
			g.k, g.a, g.b = count, from+ptr(4*(row*n+at)), b
			c.gemm(g)
			g.beta = 1 // the other parts of the sum
		})
	})
}

// MatMulTN: w[N,Kd] = y[M,N]ᵀ · x[M,Kd] + beta*w, in f32 in every class.
func (d *Device) MatMulTN(w, y, x device.Buf, m, n, kd int, beta float32) {
	c := d.begin("MatMulTN")
	defer c.end()
	a, b, to := c.in(y, c.count(m, n)), c.in(x, c.count(m, kd)), c.out(w, c.count(n, kd))
	c.gemm(gemm{m: n, n: kd, k: m, c: to, a: a, b: b, ta: true, kind: device.F32, beta: beta})
}

// matrix is a weight [n, kd] of some kind that is multiplied in another.
type matrix struct {
	c        *call
	addr     ptr
	n, kd    int
	kind, as device.Kind
	space    ptr // for a piece in the other kind
}

// weights returns a weight to be multiplied in a kind.
func (c *call) weights(w device.Buf, n, kd int, as device.Kind) *matrix {
	count := c.count(n, kd)
	if w.Len() < count {
		panic(fmt.Sprintf("cuda: %s: weight of %d elements where %dx%d are needed", c.op, w.Len(), n, kd))
	}
	m := &matrix{c: c, n: n, kd: kd, as: as}
	m.addr, m.kind = c.any(w, count)
	if m.kind != as {
		m.space = c.scratch(int64(min(n, pieceRows(kd, c.d.pieces.weight))) * int64(kd) * int64(as.Size()))
	}
	return m
}

// each runs body over pieces of rows, in the kind that they are multiplied in.
func (m *matrix) each(body func(p ptr, row, rows int)) {
	if m.kind == m.as {
		if m.n > 0 {
			body(m.addr, 0, m.n)
		}
		return
	}
	pieces(m.n, m.kd, m.c.d.pieces.weight, func(row, rows int) {
		m.c.convert(m.space, m.as, m.addr+ptr(row*m.kd*m.kind.Size()), m.kind, rows*m.kd)
		body(m.space, row, rows)
	})
}

// convert takes n elements from one kind to another.
func (c *call) convert(dst ptr, to device.Kind, src ptr, from device.Kind, n int) {
	names := [3]string{device.F32: "f32", device.BF16: "bf16", device.F16: "f16"}
	const threads, each = 256, 8
	c.launch("convert", "convert_"+names[from]+"_"+names[to], [3]int{blocks(int64(n), threads*each), 1, 1}, [3]int{threads, 1, 1}, 0, dst, src, int64(n))
}

// pieces runs body over total rows of so many elements, limit elements at a time.
func pieces(total, width, limit int, body func(row, rows int)) {
	step := pieceRows(width, limit)
	for row := 0; row < total; row += step {
		body(row, min(step, total-row))
	}
}

// pieceRows is the number of rows in limit elements, a multiple of 128 where that is possible.
func pieceRows(width, limit int) int {
	rows := max(1, limit/max(1, width))
	if rows > 128 {
		rows -= rows % 128
	}
	return rows
}

// count is the product of two sizes.
func (c *call) count(a, b int) int {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if a < 0 || b < 0 || hi != 0 || lo > 1<<60 {
		panic(fmt.Sprintf("cuda: %s: a matrix of %dx%d", c.op, a, b))
	}
	return int(lo)
}
