package num

import "sync"

// wideDepth is how many products are summed in f32 before they join a sum in f64.
const wideDepth = 1024

// wideRows is the most rows of a that are packed at once.
const wideRows = sharedA/wideDepth + 8*maxMR

// widePass adds a product of f32 operands, of at most wideDepth values of k, to a region of a matrix in f64. Of the product
// that it contains it uses the packing of a, the region, and first.
//
// Scratch memory: 4*1024*min(m, 2128) bytes, and 1.3 MiB per thread.
type widePass struct {
	*gemmPass[float32]
	c   []float64 // rows [0, m), columns [0, n)
	ldc int
}

// run packs once what all strips of columns read, and leaves the strips to the threads, the ones with most rows first.
func (p *widePass) run(s *scratch[float32], par Par) {
	blocks := ceilDiv(p.k, blockK)
	p.shared = s.share(blocks * p.groups * p.groupSize())
	packing := newShare(blocks * p.groups)
	strips := ceilDiv(p.n, p.cols)
	each(par, strips, func(t int) {
		packing.finish(func(t int) { p.packGroup(t/p.groups, t%p.groups, 0, p.k) })
		if p.region == upper {
			t = strips - 1 - t
		}
		p.strip(t*p.cols, blocks)
	})
}

// wideScratch is what one thread needs for a strip.
type wideScratch struct {
	b   []float32 // its columns, packed, block after block
	sum []float32 // the sums of a group of rows
	tmp [maxMR * maxNR]float32
}

var widePool = sync.Pool{New: func() any {
	return &wideScratch{b: make([]float32, wideDepth/blockK*(stripN*blockK+slack)), sum: make([]float32, 8*maxMR*stripN)}
}}

// strip adds the products of the columns from j0 with every group of rows that the region has there.
func (p *widePass) strip(j0, blocks int) {
	s := widePool.Get().(*wideScratch)
	defer widePool.Put(s)
	cols, b, size := min(p.cols, p.n-j0), p.b.from(j0), stripN*blockK+slack
	for kb := range blocks {
		pack(s.b[kb*size:], &b, cols, kb*blockK, min(blockK, p.k-kb*blockK), p.kern.nr, p.kern.packer)
	}
	for g := range p.groups {
		i0 := g * p.group
		rows, diagonal := min(p.group, p.m-i0), p.first+i0-j0
		if p.region.misses(diagonal, rows, cols) {
			continue
		}
		for kb := range blocks {
			p.multiply(s.sum, stripN, p.packed(kb, g), s.b[kb*size:], s.tmp[:], rows, cols, min(blockK, p.k-kb*blockK), diagonal, kb > 0)
		}
		for r := range rows {
			if from, to := p.region.columns(diagonal+r, cols); from < to {
				AddWide(p.c[(i0+r)*p.ldc+j0+from:], s.sum[r*stripN+from:r*stripN+to])
			}
		}
	}
}

// addWideProduct adds alpha*a·bᵀ to a region of c [m, n], for a [m, k] and b [n, k] rounded to f32: products are summed in
// f32 over wideDepth values of k, and those sums in f64.
//
// Scratch memory beside that of the passes: 4*1024*(m+n) bytes, 4*1024*n where a is b.
func addWideProduct(c []float64, ldc int, a []float64, lda int, b []float64, ldb, m, n, k int, alpha float32, g region, par Par) {
	s := pool32.Get().(*scratch[float32])
	defer pool32.Put(s)
	same := &a[0] == &b[0] && lda == ldb && m == n
	depth := min(k, wideDepth)
	fa := make([]float32, m*depth)
	fb := fa
	if !same {
		fb = make([]float32, n*depth)
	}
	rows := split(m, wideRows, 8*kernel32.mr)
	for k0 := 0; k0 < k; k0 += depth {
		kc := min(depth, k-k0)
		roundRows(fa, a[k0:], lda, m, kc, par)
		if !same {
			roundRows(fb, b[k0:], ldb, n, kc, par)
		}
		for i := 0; i < m; i += rows {
			p := newPass(kernel32, nil, 0, operand[float32]{v: fa[i*kc:], ld: kc}, operand[float32]{v: fb, ld: kc}, min(rows, m-i), n, kc, alpha, 0)
			p.region, p.first = g, i
			w := &widePass{gemmPass: p, c: c[i*ldc:], ldc: ldc}
			w.run(s, par)
		}
	}
}

// roundRows rounds src [rows, cols] to dst, rows one after the other.
func roundRows(dst []float32, src []float64, ld, rows, cols int, par Par) {
	byRows(par, rows, cols, func(i int) {
		out := dst[i*cols:][:cols]
		for j, v := range src[i*ld:][:cols] {
			out[j] = float32(v)
		}
	})
}
