package num

import "sync"

// float is an element type of the matrix products.
type float interface{ float32 | float64 }

// Blocking of the matrix products, after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
// (ACM TOMS 34(3), 2008). blockK fixes the order of sums and so the bits of results; the others only where work is done.
const (
	blockK = 256 // values of the summed dimension per pass
	maxMR  = 16  // bound on kernel.mr and
	maxNR  = 32  // on kernel.nr
	slack  = 16  // elements that packing may write past the end of a block
)

// kernel is one micro-kernel with the shape of its tile.
type kernel[T float] struct {
	mr, nr int
	// strip computes c[i*ldc+t*nr+j] (+)= Σ_l a[l*mr+i]*b[(t*k+l)*nr+j] for t < tiles, i < mr, j < nr, each sum one chain
	// from 0 with l ascending over k values; it adds to c where add is set, else it overwrites. tiles is at least 1.
	strip  func(c []T, ldc int, a, b []T, k, tiles int, add bool)
	packer packer[T] // nil: plain Go
	tails  []tail[T] // by rows
}

// run is strip for one tile.
func (k *kernel[T]) run(c []T, ldc int, a, b []T, kc int, add bool) {
	k.strip(c, ldc, a, b, kc, 1, add)
}

// tail is a kernel like strip that computes the first rows of a tile alone.
type tail[T float] struct {
	rows  int
	strip func(c []T, ldc int, a, b []T, k, tiles int, add bool)
}

// forRows returns the cheapest kernel that computes rows rows.
func (k *kernel[T]) forRows(rows int) func(c []T, ldc int, a, b []T, k, tiles int, add bool) {
	for _, t := range k.tails {
		if rows <= t.rows {
			return t.strip
		}
	}
	return k.strip
}

// packer does the work of packRows and packColumns for one panel, or part of it.
type packer[T float] interface {
	// rows packs the first values and returns how many.
	rows(panel []T, o *operand[T], i, rows, k0, kc, w int) int
	// columns packs the panel, or returns false; kc > 0.
	columns(panel []T, o *operand[T], i, rows, k0, kc, w int) bool
}

// scratch is the packed blocks of one running tile.
type scratch[T float] struct {
	b, c   []T // a strip of b, and a tile
	shared []T // what several threads read; grows as needed
}

var (
	pool32 = sync.Pool{New: func() any { return newScratch[float32]() }}
	pool64 = sync.Pool{New: func() any { return newScratch[float64]() }}
)

func newScratch[T float]() *scratch[T] {
	return &scratch[T]{
		b: make([]T, (stripN+maxNR)*blockK+slack),
		c: make([]T, maxMR*maxNR),
	}
}

// share returns n elements for several threads to read.
func (s *scratch[T]) share(n int) []T {
	if len(s.shared) < n {
		s.shared = make([]T, n)
	}
	return s.shared[:n]
}

// bestKernel returns the kernel in use for T.
func bestKernel[T float]() *kernel[T] {
	if k, ok := any(kernel32).(*kernel[T]); ok {
		return k
	}
	return any(kernel64).(*kernel[T])
}

// poolOf returns the pool of scratch blocks for T.
func poolOf[T float]() *sync.Pool {
	var zero T
	if _, ok := any(zero).(float32); ok {
		return &pool32
	}
	return &pool64
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// scaleTile multiplies a tile by beta, and clears it where that is 0, whatever it holds.
func scaleTile[T float](y []T, ldy, m, n int, beta T) {
	if beta == 1 {
		return
	}
	for i := range m {
		row := y[i*ldy:][:n]
		if beta == 0 {
			clear(row)
			continue
		}
		for j := range row {
			row[j] *= beta
		}
	}
}

// micro runs the kernel on one micro-tile of rows by cols outputs, through tmp where the tile is not whole.
func micro[T float](kern *kernel[T], y []T, ldy int, a, b, tmp []T, rows, cols, kc int, add bool) {
	if rows == kern.mr && cols == kern.nr {
		kern.run(y, ldy, a, b, kc, add)
		return
	}
	kern.forRows(rows)(tmp, kern.nr, a, b, kc, 1, false)
	for i := range rows {
		store(y[i*ldy:][:cols], tmp[i*kern.nr:], add)
	}
}

// store writes or adds values.
func store[T float](dst, src []T, add bool) {
	if !add {
		copy(dst, src)
		return
	}
	for i := range dst {
		dst[i] += src[i]
	}
}
