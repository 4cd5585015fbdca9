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
			p.block(s.sum, p.packed(kb, g), s.b[kb*size:], rows, cols, diagonal, min(blockK, p.k-kb*blockK), kb > 0)
		}
		for r := range rows {
			if below := min(cols, diagonal+r+1); below > 0 {
				AddWide(p.c[(p.first+i0+r)*p.ldc+j0:][:below], s.sum[r*stripN:][:below])
			}
		}
	}
}

// block multiplies a group of rows with a strip, and leaves out tiles that lie above the diagonal: row r ends with column
// diagonal+r.
func (p *gramPass) block(sum, a, b []float32, rows, cols, diagonal, kc int, add bool) {
	mr, nr := p.kern.mr, p.kern.nr
	var edge [maxMR * maxNR]float32
	for i := 0; i < rows; i += mr {
		end := min(cols, diagonal+i+mr)
		j := 0
		if whole := min(ceilDiv(end, nr), cols/nr); i+mr <= rows && whole > 0 {
			p.kern.strip(sum[i*stripN:], stripN, a[i*kc:], b, kc, whole, add)
			j = whole * nr
		}
		for ; j < end; j += nr {
			micro(p.kern, sum[i*stripN+j:], stripN, a[i*kc:], b[j*kc:], edge[:], min(mr, rows-i), min(nr, cols-j), kc, add)
		}
	}
}

// MirrorLower copies what lies below the diagonal of c [k, k] to its place above it:
//
//	c[j,i] = c[i,j] for j < i
func MirrorLower(c []float64, k int, par Par) {
	checkDims("MirrorLower", k)
	checkMat("MirrorLower", "c", len(c), k, k, k)
	edge := triangleEdge(k)
	side := ceilDiv(k, edge)
	each(par, side*(side+1)/2, func(t int) {
		i, j := triangle(t)
		mirror(c, k, i*edge, min(edge, k-i*edge), j*edge, min(edge, k-j*edge))
	})
}

// mirror copies what lies below the diagonal of a tile of c [k, k] to the other side, in squares whose lines stay in the
// first-level cache.
func mirror(c []float64, k, i0, rows, j0, cols int) {
	const edge = 8
	for i := i0; i < i0+rows; i += edge {
		for j := j0; j < min(j0+cols, i+edge); j += edge {
			end := min(i+edge, i0+rows)
			for q := j; q < min(j+edge, j0+cols, end-1); q++ {
				from := max(i, q+1)
				for p, dst := from, c[q*k+from:q*k+end]; p < end; p++ {
					dst[p-from] = c[p*k+q]
				}
			}
		}
	}
}
