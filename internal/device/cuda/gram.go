//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"modelpress/internal/device"
)

// gram implements device.Gram. Its memory is 8·n² bytes, the sums on and below the diagonal and the factor above it, and 8·n for the
// diagonal of the sums, which the factor takes the place of. Scratch of Add is 4·1024·n bytes, twice that with weights.
type gram struct {
	d        *Device
	n        int
	h        device.Buf // n² doubles, as floats
	diagonal device.Buf // n of them

	order []int32 // of the factor
	dead  []byte
}

const (
	gramRows  = 1024 // rows of x whose products are summed in f32
	gramStrip = 1024 // rows of the sums that one product is made for
)

// NewGram returns an empty second moment of width n.
func (d *Device) NewGram(n int) (device.Gram, error) {
	if n < 1 || n > math.MaxInt32 {
		return nil, fmt.Errorf("cuda: no second moment of width %d", n)
	}
	g := &gram{d: d, n: n}
	var err error
	if g.h, err = d.Alloc(device.F32, 2*n*n); err != nil {
		return nil, err
	}
	if g.diagonal, err = d.Alloc(device.F32, 2*n); err != nil {
		g.h.Free()
		return nil, err
	}
	return g, nil
}

// Free gives the memory back.
func (g *gram) Free() {
	g.h.Free()
	g.diagonal.Free()
}

// begin starts an operation that reads the sums.
func (g *gram) begin(op string) (c *call, h, diagonal ptr) {
	c = g.d.begin(op)
	return c, c.in(g.h, 2*g.n*g.n), c.in(g.diagonal, 2*g.n)
}

// Add adds rows of x [rows, n] with weights w, nil for all ones.
func (g *gram) Add(x device.Buf, rows int, w []float32) {
	c := g.d.begin("Gram.Add")
	defer c.end()
	if w != nil && len(w) < rows {
		panic(fmt.Sprintf("cuda: %s: %d weights for %d rows", c.op, len(w), rows))
	}
	n := g.n
	from, h := c.in(x, c.count(rows, n)), c.out(g.h, 2*n*n)
	product := c.scratch(4 * int64(min(n, gramStrip)) * int64(n))
	var weights, weighted ptr
	if w != nil {
		weights = c.table(floatBytes(w[:rows]))
		weighted = c.scratch(4 * int64(min(rows, gramRows)) * int64(n))
	}
	for i := 0; i < rows; i += gramRows {
		count := min(gramRows, rows-i)
		right := from + ptr(4*i*n)
		left := right
		if w != nil {
			left = weighted
			c.launch("gram", "gram_rows", c.grid(n, count), threads256, 0, left, right, weights+ptr(4*i), count, n)
		}
		for j := 0; j < n; j += gramStrip {
			strip := min(gramStrip, n-j)
			c.gemm(gemm{m: strip, n: j + strip, k: count, c: product, a: left + ptr(4*j), b: right, ta: true, lda: n, ldb: n})
			c.launch("gram", "gram_add", c.grid(j+strip, strip), threads256, 0, h, product, n, j, strip)
		}
	}
}

var threads256 = [3]int{256, 1, 1}

// grid is blocks of 256 threads over columns, for each of some rows.
func (c *call) grid(columns, rows int) [3]int {
	return [3]int{blocks(int64(columns), 256), min(rows, math.MaxUint16), 1}
}

// Finish multiplies the sums by scale.
func (g *gram) Finish(scale float64) {
	c := g.d.begin("Gram.Finish")
	defer c.end()
	c.launch("gram", "gram_scale", c.grid(g.n, g.n), threads256, 0, c.out(g.h, 2*g.n*g.n), c.out(g.diagonal, 2*g.n), scale, g.n)
}

// Upload takes what is on and below the diagonal of h [n, n] in place of sums that are finished.
func (g *gram) Upload(h []float64) {
	g.check(h)
	g.d.UploadRaw(g.h, 0, doubleBytes(h))
	d := make([]float64, g.n)
	for i := range d {
		d[i] = h[i*g.n+i]
	}
	g.d.UploadRaw(g.diagonal, 0, doubleBytes(d))
}

func (g *gram) check(h []float64) {
	if len(h) != g.n*g.n {
		panic(fmt.Sprintf("cuda: %d values of a second moment of width %d", len(h), g.n))
	}
}

// Diagonal returns the diagonal.
func (g *gram) Diagonal() []float64 {
	c, _, diagonal := g.begin("Gram.Diagonal")
	defer c.end()
	d := make([]float64, g.n)
	c.fetch(doubleBytes(d), diagonal)
	return d
}

// Download copies what is on and below the diagonal to h [n, n].
func (g *gram) Download(h []float64) {
	g.check(h)
	g.copyOut(h)
	for i, d := range g.Diagonal() {
		h[i*g.n+i] = d
	}
}

func (g *gram) copyOut(h []float64) {
	c, from, _ := g.begin("Gram.Download")
	defer c.end()
	c.fetch(doubleBytes(h), from)
}

// NotFinite returns the first element on or below the diagonal, row by row, that is not finite.
func (g *gram) NotFinite() (row, col int, v float64, found bool) {
	c, h, diagonal := g.begin("Gram.NotFinite")
	defer c.end()
	row, col = c.first(g.n, func(first ptr) {
		c.launch("gram", "gram_check", warps(g.n), threads256, 0, first, h, diagonal, g.n)
	})
	if row < 0 {
		return 0, 0, 0, false
	}
	at := h + ptr(8*(row*g.n+col))
	if row == col {
		at = diagonal + ptr(8*row)
	}
	value := []float64{0}
	c.fetch(doubleBytes(value), at)
	return row, col, value[0], true
}

// warps is blocks of 256 threads with a warp for each of n.
func warps(n int) [3]int { return [3]int{blocks(int64(n), 8), 1, 1} }

// first returns the first of n rows with a column in what check fills in, -1 where there is none.
func (c *call) first(n int, check func(first ptr)) (row, col int) {
	p := c.scratch(4 * int64(n))
	check(p)
	list := make([]int32, n)
	c.fetch(intBytes(list), p)
	for i, j := range list {
		if j != math.MaxInt32 {
			return i, int(j)
		}
	}
	return -1, -1
}

// Energy returns tr((x-y)·H·(x-y)ᵀ) for x and y [out, n] of any kinds, y nil for zeros. Scratch is 4·256·(out+n) bytes and at most 256 MiB
// for x-y in f32.
func (g *gram) Energy(x, y device.Buf, out int) float64 {
	c, h, diagonal := g.begin("Gram.Energy")
	defer c.end()
	n := g.n
	e := &energy{call: c, n: n, h: h, diagonal: diagonal, sums: c.zeroed(8 * int64(out)), panel: c.scratch(4 * gptqBlock * int64(n))}
	rows := min(out, pieceRows(n, weightPiece))
	e.product = c.scratch(4 * gptqBlock * int64(rows))
	from, kind := c.any(x, c.count(out, n))
	var less, space ptr
	var lessKind device.Kind
	if y != nil {
		less, lessKind = c.any(y, c.count(out, n))
	}
	if y != nil || kind != device.F32 {
		space = c.scratch(4 * int64(rows) * int64(n))
	}
	pieces(out, n, weightPiece, func(row, rows int) {
		at := from + ptr(row*n*kind.Size())
		if space != 0 {
			minus := less
			if y != nil {
				minus += ptr(row * n * lessKind.Size())
			}
			c.launch("gram", "matrix_difference", [3]int{blocks(int64(rows)*int64(n), 256), 1, 1}, threads256, 0, space, at, int(kind), minus, int(lessKind), int64(rows)*int64(n))
			at = space
		}
		e.rows(at, row, rows)
	})
	return sumOf(c.doubles(e.sums, out))
}

// energy is Energy under way.
type energy struct {
	*call
	n                    int
	h, diagonal          ptr
	sums, panel, product ptr // by row; columns of the sums; the product of rows with them
}

// rows adds the energy of count rows of x in f32, of which the first is row.
func (e *energy) rows(x ptr, row, count int) {
	n := e.n
	for j := 0; j < n; j += gptqBlock {
		w := min(gptqBlock, n-j)
		e.launch("gram", "energy_panel", [3]int{n - j, 1, 1}, threads256, 0, e.panel, e.h, e.diagonal, n, j, w)
		e.gemm(gemm{m: count, n: w, k: n - j, c: e.product, a: x + ptr(4*j), b: e.panel, lda: n})
		e.launch("gram", "energy_rows", warps(count), threads256, 0, e.sums+ptr(8*row), x, e.product, count, n, j, w)
	}
}

// zeroed is scratch of zeros.
func (c *call) zeroed(bytes int64) ptr {
	p := c.scratch(bytes)
	c.clear(p, bytes)
	return p
}

// doubles fetches n values.
func (c *call) doubles(p ptr, n int) []float64 {
	v := make([]float64, n)
	c.fetch(doubleBytes(v), p)
	return v
}

func sumOf(v []float64) (sum float64) {
	for _, x := range v {
		sum += x
	}
	return sum
}
