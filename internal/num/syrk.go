package num

import "sync"

// gramRows is how many rows of x are summed in f32 before they join the f64 total.
const gramRows = 1024

// gramCols is the most columns of x, rows of c, that are packed at once.
const gramCols = sharedA/gramRows + 8*maxMR

// SyrkTN adds the weighted second moment of the rows of x [m, k] (leading dimension ldx) to c [k, k]:
//
//	c[a,b] += Σ_{i<m} scale[i] * x[i,a] * x[i,b]
//
// scale nil means all ones. Products are summed in f32 over blocks of rows, and the blocks in f64. Both halves of c get
// the same values, so that a symmetric c stays symmetric bit for bit.
//
// Scratch memory: 4*1024*min(k, 2048) bytes, and 1.3 MiB per thread.
func SyrkTN(c []float64, x []float32, ldx int, scale []float32, m, k int, par Par) {
	SyrkLower(c, x, ldx, scale, m, k, par)
	MirrorLower(c, k, par)
}

// SyrkLower is SyrkTN for the elements on and below the diagonal; the others are left alone. Who adds many times mirrors
// once, by [MirrorLower].
func SyrkLower(c []float64, x []float32, ldx int, scale []float32, m, k int, par Par) {
	checkDims("SyrkLower", m, k)
	checkMat("SyrkLower", "c", len(c), k, k, k)
	checkMat("SyrkLower", "x", len(x), m, k, ldx)
	if scale != nil {
		checkLen("SyrkLower", "scale", len(scale), m)
	}
	s := pool32.Get().(*scratch[float32])
	defer pool32.Put(s)
	rows := split(max(k, 1), gramCols, 8*kernel32.mr)
	for r := 0; r < m; r += gramRows {
		n := min(gramRows, m-r)
		from := operand[float32]{v: x[r*ldx:], ld: ldx, trans: true}
		for i := 0; i < k; i += rows {
			a := from.from(i)
			if scale != nil {
				a.scale = scale[r : r+n]
			}
			p := newPass(kernel32, nil, 0, a, from, min(rows, k-i), min(i+rows, k), n, 1, 0)
			p.region = lower
			g := &gramPass{gemmPass: p, c: c, ldc: k, first: i}
			g.run(s, par)
		}
	}
}

// gramPass adds the products of at most gramRows rows of x to rows [first, first+m) of c, columns up to the diagonal. Of
// the product that it contains it uses the packing of a.
type gramPass struct {
	*gemmPass[float32]
	c     []float64
	ldc   int
	first int
}

// run packs once what all strips of columns read, and leaves the strips to the threads, the ones with most rows first.
func (p *gramPass) run(s *scratch[float32], par Par) {
	blocks := ceilDiv(p.k, blockK)
	p.shared = s.share(blocks * p.groups * p.groupSize())
	packing := newShare(blocks * p.groups)
	each(par, ceilDiv(p.n, p.cols), func(t int) {
		packing.finish(func(t int) { p.packGroup(t/p.groups, t%p.groups, 0, p.k) })
		p.strip(t*p.cols, blocks)
	})
}

// gramScratch is what one thread needs for a strip.
type gramScratch struct {
	b   []float32 // its columns, packed, block after block
	sum []float32 // the sums of a group of rows
	tmp [maxMR * maxNR]float32
}

var gramPool = sync.Pool{New: func() any {
	return &gramScratch{b: make([]float32, gramRows/blockK*(stripN*blockK+slack)), sum: make([]float32, 8*maxMR*stripN)}
}}

// strip adds the products of the columns from j0 with every group of rows that reaches the diagonal there.
func (p *gramPass) strip(j0, blocks int) {
	s := gramPool.Get().(*gramScratch)
	defer gramPool.Put(s)
	cols, b, size := min(p.cols, p.n-j0), p.b.from(j0), stripN*blockK+slack
	for kb := range blocks {
		pack(s.b[kb*size:], &b, cols, kb*blockK, min(blockK, p.k-kb*blockK), p.kern.nr, p.kern.packer)
	}
	for g := max(0, (j0-p.first)/p.group); g < p.groups; g++ {
		i0 := g * p.group
		rows, diagonal := min(p.group, p.m-i0), p.first+i0-j0 // column of the strip where the first row ends
		for kb := range blocks {
			p.multiply(s.sum, stripN, p.packed(kb, g), s.b[kb*size:], s.tmp[:], rows, cols, min(blockK, p.k-kb*blockK), diagonal, kb > 0)
		}
		for r := range rows {
			if below := min(cols, diagonal+r+1); below > 0 {
				AddWide(p.c[(p.first+i0+r)*p.ldc+j0:][:below], s.sum[r*stripN:][:below])
			}
		}
	}
}
