//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// Products on kernels of this package, where there is no cuBLAS: both operands become planes of bfloat16 [terms, rows, K], as many as their
// kind needs, which tensor cores multiply (see kernels/gemm.cu).

const (
	gemmTile    = 128
	gemmThreads = 256
	planesBytes = 256 << 20 // of the planes of each operand, unless that is less than a tile
)

// planes says how many each kind needs, and the kernel that multiplies them with its shared memory.
var planes = map[device.Kind]struct {
	terms  int
	kernel string
	shared int
}{
	device.BF16: {1, "gemm_11", 4 * 16 << 10},
	device.F16:  {2, "gemm_22", 2 * 32 << 10},
	device.F32:  {3, "gemm_33", 2 * 48 << 10},
}

// operand is a matrix [rows, k] in memory: rows ld elements apart, or columns where it is turned.
type operand struct {
	at          ptr
	rows, k, ld int
	turned      bool
	kind        device.Kind
}

// direct reports whether the kernels can read it where it lies.
func (o operand) direct() bool {
	return o.kind == device.BF16 && !o.turned && o.k%8 == 0 && o.ld%8 == 0 && o.at%16 == 0
}

// padded is the length of rows in planes.
func (o operand) padded() int { return ceilDiv(o.k, 8) * 8 }

// rowBytes is the size of a row in planes.
func (o operand) rowBytes() int64 { return 2 * int64(planes[o.kind].terms) * int64(o.padded()) }

// panel is some rows of an operand as planes.
type panel struct {
	at, room   ptr
	from, rows int
	ld, plane  int64 // elements from row to row and from plane to plane
}

// ownGemm multiplies without a library. Rows of either operand are split into planes a panel at a time; the bits do not depend on how many.
// Scratch: 2*planes*K bytes for each row of a panel, at most 256 MiB for each operand, or what 128 rows take.
func (c *call) ownGemm(g gemm) {
	a, b := g.operands()
	limit := int64(planesBytes)
	for limit > 1 && !c.room(a.panelBytes(limit)+b.panelBytes(limit)) {
		limit /= 2
	}
	c.panels(g, limit)
}

// operands are A and the transpose of B.
func (g *gemm) operands() (a, b operand) {
	return operand{at: g.a, rows: g.m, k: g.k, ld: g.lda, turned: g.ta, kind: g.kind},
		operand{at: g.b, rows: g.n, k: g.k, ld: g.ldb, turned: !g.tb, kind: g.kind}
}

// panels multiplies with planes of at most limit bytes, or those of 128 rows, for each operand.
func (c *call) panels(g gemm, limit int64) {
	a, b := g.operands()
	pa, pb := c.panel(a, limit), c.panel(b, limit)
	for row := 0; row < g.m; row += pa.rows {
		c.split(a, &pa, row)
		for column := 0; column < g.n; column += pb.rows {
			if row == 0 || pb.rows < g.n {
				c.split(b, &pb, column)
			}
			c.multiply(g, pa, pb)
		}
	}
}

// panelRows is how many rows are split at a time, panelBytes the room for them; 0 where the operand is read in place.
func (o operand) panelRows(limit int64) int {
	return min(o.rows, max(gemmTile, int(limit/o.rowBytes())/gemmTile*gemmTile))
}

func (o operand) panelBytes(limit int64) int64 {
	if o.direct() {
		return 0
	}
	return int64(o.panelRows(limit)) * o.rowBytes()
}

// panel takes the room for a panel.
func (c *call) panel(o operand, limit int64) panel {
	if o.direct() {
		return panel{rows: o.rows, ld: int64(o.ld)}
	}
	return panel{rows: o.panelRows(limit), ld: int64(o.padded()), room: c.scratch(o.panelBytes(limit))}
}

// split makes p the rows of o from a place on.
func (c *call) split(o operand, p *panel, from int) {
	p.from, p.at = from, o.at
	if o.direct() {
		return
	}
	p.at = p.room
	terms, rows := planes[o.kind].terms, min(p.rows, o.rows-from)
	p.plane = int64(rows) * p.ld
	size := ptr(o.kind.Size())
	if o.turned {
		blocks := ceilDiv(rows, 64) * ceilDiv(o.padded(), 64)
		c.launch("gemmsplit", "gemm_split_columns", [3]int{blocks, 1, 1}, [3]int{gemmThreads, 1, 1}, 0,
			p.at, o.at, int(o.kind), terms, int64(rows), int64(o.k), p.ld, int64(o.ld), int64(from))
		return
	}
	blocks := min(ceilDiv(rows*o.padded()/8, gemmThreads), maxBlocks)
	c.launch("gemmsplit", "gemm_split", [3]int{blocks, 1, 1}, [3]int{gemmThreads, 1, 1}, 0,
		p.at, o.at+ptr(from*o.ld)*size, int(o.kind), terms, int64(rows), int64(o.k), p.ld, int64(o.ld))
}

// multiply computes the part of C that two panels make.
func (c *call) multiply(g gemm, a, b panel) {
	m, n := min(a.rows, g.m-a.from), min(b.rows, g.n-b.from)
	tiles := int64(ceilDiv(m, gemmTile)) * int64(ceilDiv(n, gemmTile))
	if tiles > 1<<31-1 {
		panic(fmt.Sprintf("cuda: %s: a product of %dx%d", c.op, m, n))
	}
	kernel := planes[g.kind]
	c.launch("gemm", kernel.kernel, [3]int{int(tiles), 1, 1}, [3]int{gemmThreads, 1, 1}, kernel.shared,
		g.c+ptr(4*(a.from*g.ldc+b.from)), a.at, b.at, a.plane, b.plane, m, n, int64(ceilDiv(g.k, 8)*8), a.ld, b.ld, int64(g.ldc), g.beta)
}
