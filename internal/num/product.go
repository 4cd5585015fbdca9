package num

import (
	"sync"
	"sync/atomic"
)

// Work of a product is cut so that nothing is packed twice where there are columns enough: all of a that a pass needs is
// packed once, by all threads, and read by all; each thread packs the strips of b that it then multiplies with every row.
// The packed a streams through the third-level cache, one panel at a time; a strip of b stays in the second.
const (
	chunkM  = 4096    // most rows of a per pass
	sharedA = 1 << 21 // elements of a that are packed at once, where a pass over chunkM rows and blockK values allows
	stripN  = 256     // most columns of a strip
	pieces  = 16      // parts that a pass should have, for the threads to share evenly
	minRows = 112     // fewest rows for which a strip may be packed again
)

// gemm computes y = alpha*a·b + beta*y: y is [m, n], a holds m and b holds n vectors of length k.
func gemm[T float](kern *kernel[T], y []T, ldy int, a, b operand[T], m, n, k int, alpha, beta T, par Par) {
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		scaleTile(y, ldy, m, n, beta)
		return
	}
	pool := poolOf[T]()
	s := pool.Get().(*scratch[T])
	rows := split(m, chunkM, kern.mr)
	for i := 0; i < m; i += rows {
		p := newPass(kern, y[i*ldy:], ldy, a.from(i), b, min(rows, m-i), n, k, alpha, beta)
		p.run(s, par)
	}
	pool.Put(s)
}

// gemmPass is the product for some rows of y.
type gemmPass[T float] struct {
	kern        *kernel[T]
	y           []T
	ldy         int
	a, b        operand[T]
	m, n, k     int
	alpha, beta T
	shared      []T // packed a: for every block of k the groups of rows one after the other
	group       int // rows of a group
	groups      int
	rows, cols  int // size of a part of y; rows is a multiple of group
	across      int // parts per row of parts
	parts       int
	depth       int // values of k per pass, a multiple of blockK
	region      region
	first       int // column of y where its first row meets the diagonal
}

func newPass[T float](kern *kernel[T], y []T, ldy int, a, b operand[T], m, n, k int, alpha, beta T) *gemmPass[T] {
	p := &gemmPass[T]{kern: kern, y: y, ldy: ldy, a: a, b: b, m: m, n: n, k: k, alpha: alpha, beta: beta}
	p.group = 8 * kern.mr
	p.groups = ceilDiv(m, p.group)
	p.depth = max(1, sharedA/(p.groups*p.group*blockK)) * blockK
	p.rows, p.cols = p.groups*p.group, split(n, stripN, kern.nr)
	for p.count() < pieces && p.cols >= 4*kern.nr {
		p.cols = split(n, p.cols/2, kern.nr)
	}
	for p.count() < pieces/2 && p.rows >= 2*minRows && p.rows > p.group {
		p.rows = split(m, p.rows/2, p.group)
	}
	return p
}

// count sets and returns the number of parts.
func (p *gemmPass[T]) count() int {
	p.across = ceilDiv(p.n, p.cols)
	p.parts = p.across * ceilDiv(p.m, p.rows)
	return p.parts
}

// run packs and multiplies, depth values of k at a time.
func (p *gemmPass[T]) run(s *scratch[T], par Par) {
	for k0 := 0; k0 < p.k; k0 += p.depth {
		k1 := min(k0+p.depth, p.k)
		blocks := ceilDiv(k1-k0, blockK)
		p.shared = s.share(blocks * p.groups * p.groupSize())
		packing := newShare(blocks * p.groups)
		each(par, p.parts, func(t int) {
			packing.finish(func(t int) { p.packGroup(t/p.groups, t%p.groups, k0, k1) })
			if p.region == upper {
				t = p.parts - 1 - t // the columns with most rows first
			}
			p.part(t/p.across*p.rows, t%p.across*p.cols, k0, k1)
		})
	}
}

// share is work that several threads do together before any of them goes on, without a second start of threads.
type share struct {
	n    int64
	next atomic.Int64
	left sync.WaitGroup
}

func newShare(n int) *share {
	s := &share{n: int64(n)}
	s.left.Add(n)
	return s
}

// finish runs body(0..n-1), less what other callers run, and returns when all is done. It does not matter in which order
// or on how many threads the callers run: whoever waits, waits for bodies that are running.
func (s *share) finish(body func(i int)) {
	for {
		i := s.next.Add(1) - 1
		if i >= s.n {
			break
		}
		s.one(body, int(i))
	}
	s.left.Wait()
}

// one runs one body; should it panic, others do not wait for it forever.
func (s *share) one(body func(i int), i int) {
	defer s.left.Done()
	body(i)
}

// groupSize is the room of a packed group.
func (p *gemmPass[T]) groupSize() int { return p.group*blockK + slack }

// packed returns group g of block kb.
func (p *gemmPass[T]) packed(kb, g int) []T {
	size := p.groupSize()
	at := (kb*p.groups + g) * size
	return p.shared[at : at+size]
}

// packGroup packs group g of block kb of the values [k0, k1) of a, times alpha.
func (p *gemmPass[T]) packGroup(kb, g, k0, k1 int) {
	k0 += kb * blockK
	kc, i := min(blockK, k1-k0), g*p.group
	a, dst := p.a.from(i), p.packed(kb, g)
	rows := min(p.group, p.m-i)
	pack(dst, &a, rows, k0, kc, p.kern.mr, p.kern.packer)
	if p.alpha != 1 {
		for i := range dst[:ceilDiv(rows, p.kern.mr)*p.kern.mr*kc] {
			dst[i] *= p.alpha
		}
	}
}

// part adds the values [k0, k1) to the part of y at row i0 and column j0.
func (p *gemmPass[T]) part(i0, j0, k0, k1 int) {
	rows, cols := min(p.rows, p.m-i0), min(p.cols, p.n-j0)
	diagonal := p.first + i0 - j0
	if p.region.misses(diagonal, rows, cols) {
		return
	}
	y := p.y[i0*p.ldy+j0:]
	if k0 == 0 && p.beta != 0 { // else the first values overwrite y
		scaleTile(y, p.ldy, rows, cols, p.beta)
	}
	pool, b := poolOf[T](), p.b.from(j0)
	s := pool.Get().(*scratch[T])
	for kb := range ceilDiv(k1-k0, blockK) {
		k := k0 + kb*blockK
		kc := min(blockK, k1-k)
		pack(s.b, &b, cols, k, kc, p.kern.nr, p.kern.packer)
		for i := 0; i < rows; i += p.group {
			p.multiply(y[i*p.ldy:], p.ldy, p.packed(kb, (i0+i)/p.group), s.b, s.c, min(p.group, rows-i), cols, kc, diagonal+i, k > 0 || p.beta != 0)
		}
	}
	pool.Put(s)
}

// multiply runs the kernel over a group: a panel of a stays in the first-level cache while the strip of b passes by. Row r
// of the group meets the diagonal at column diagonal+r; what lies outside the region is not written.
func (p *gemmPass[T]) multiply(y []T, ldy int, a, b, tmp []T, rows, cols, kc, diagonal int, add bool) {
	mr, nr := p.kern.mr, p.kern.nr
	for i := 0; i < rows; i += mr {
		panel, n := a[i*kc:], min(mr, rows-i)
		lo, in, out, hi := p.region.tiles(diagonal+i, n, cols, nr)
		if n < mr {
			out = in // short panels go through tmp
		}
		for t := lo; t < hi; t++ {
			if t == in && out > in {
				p.kern.strip(y[i*ldy+t*nr:], ldy, panel, b[t*nr*kc:], kc, out-in, add)
				t = out - 1
				continue
			}
			c := min(nr, cols-t*nr)
			p.kern.forRows(n)(tmp, nr, panel, b[t*nr*kc:], kc, 1, false)
			for r := range n {
				from, to := p.region.columns(diagonal+i+r-t*nr, c)
				store(y[(i+r)*ldy+t*nr+from:][:to-from], tmp[r*nr+from:], add)
			}
		}
	}
}

// split returns the size of equal parts of n, each at most most and a multiple of unit.
func split(n, most, unit int) int {
	most = max(unit, most/unit*unit)
	parts := ceilDiv(n, most)
	return ceilDiv(ceilDiv(n, parts), unit) * unit
}
