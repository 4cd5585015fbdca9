package num

import "sync"

// GemmPacked computes y = bf16(x)·wᵀ + beta*y with y [m, n], x [m, k] and packed w [n, k], where bf16 rounds to nearest:
//
//	for i < m, j < n:
//		for each block of 512 values of l: s = Σ_l bf16(x[i,l])*w[j,l]   (one chain from 0, pairs ascending, odd value first)
//			y[i,j] = s + (y[i,j], before the first block beta*y[i,j])
//
// in float32 with denormals as zeros; dotPair is one step. Under the class "bf16amx" sums of 16 pairs are formed first,
// the even and the odd ones apart, and added to y one after the other. Element (i, j) is a function of row i of x and row
// j of w alone. With beta 0 the old y is not read. Besides y it needs at most 8 MiB for rounded rows of x, and a block of
// 4 KiB per thread.
func GemmPacked(y []float32, ldy int, x []float32, ldx int, w *PackedBF16, m int, beta float32, par Par) {
	gemmPacked(bestBF16(), y, ldy, x, ldx, w, m, beta, par)
}

// GemmBF16 is GemmPacked for weights that are used once: it packs them first.
func GemmBF16(y []float32, ldy int, x []float32, ldx int, w Weights, m, n, k int, beta float32, par Par) {
	GemmPacked(y, ldy, x, ldx, PackBF16(w, n, k, par), m, beta, par)
}

func gemmPacked(kern *kernelBF16, y []float32, ldy int, x []float32, ldx int, w *PackedBF16, m int, beta float32, par Par) {
	checkDims("GemmPacked", m)
	checkMat("GemmPacked", "y", len(y), m, w.n, ldy)
	checkMat("GemmPacked", "x", len(x), m, w.k, ldx)
	if m == 0 || w.n == 0 {
		return
	}
	if w.k == 0 {
		scaleTile(y, ldy, m, w.n, beta)
		return
	}
	shared := pairPool.Get().(*[]uint32)
	rows := split(m, chunkM, kern.mr)
	for i := 0; i < m; i += rows {
		p := newPassBF16(kern, y[i*ldy:], ldy, x[i*ldx:], ldx, w, min(rows, m-i), beta)
		p.run(shared, par)
	}
	pairPool.Put(shared)
}

var pairPool = sync.Pool{New: func() any { return new([]uint32) }}

// passBF16 is the product for some rows of y. Work is shared out as in gemmPass, but for b, which is packed already.
type passBF16 struct {
	kern          *kernelBF16
	y             []float32
	ldy           int
	x             []float32
	ldx           int
	w             *PackedBF16
	m             int
	beta          float32
	shared        []uint32
	group, groups int // rows of a group of packed x, and groups
	rows, cols    int // size of a part of y
	across, parts int
	depth         int // pairs per pass
}

func newPassBF16(kern *kernelBF16, y []float32, ldy int, x []float32, ldx int, w *PackedBF16, m int, beta float32) *passBF16 {
	p := &passBF16{kern: kern, y: y, ldy: ldy, x: x, ldx: ldx, w: w, m: m, beta: beta}
	p.group = max(1, 112/kern.mr) * kern.mr
	p.groups = ceilDiv(m, p.group)
	p.depth = max(1, sharedA/(p.groups*p.group*blockPairs)) * blockPairs
	p.rows, p.cols = p.groups*p.group, split(w.n, stripN, panelBF16)
	for p.count() < pieces && p.cols >= 4*panelBF16 {
		p.cols = split(w.n, p.cols/2, panelBF16)
	}
	for p.count() < pieces/2 && p.rows >= 2*p.group {
		p.rows = split(m, p.rows/2, p.group)
	}
	return p
}

// count sets and returns the number of parts.
func (p *passBF16) count() int {
	p.across = ceilDiv(p.w.n, p.cols)
	p.parts = p.across * ceilDiv(p.m, p.rows)
	return p.parts
}

func (p *passBF16) run(shared *[]uint32, par Par) {
	total := pairs(p.w.k)
	for l0 := 0; l0 < total; l0 += p.depth {
		l1 := min(l0+p.depth, total)
		blocks := ceilDiv(l1-l0, blockPairs)
		if need := blocks * p.groups * p.groupSize(); len(*shared) < need {
			*shared = make([]uint32, need)
		}
		p.shared = *shared
		packing := newShare(blocks * p.groups)
		each(par, p.parts, func(t int) {
			packing.finish(func(t int) { p.packGroup(t/p.groups, t%p.groups, l0, l1) })
			p.part(t/p.across*p.rows, t%p.across*p.cols, l0, l1)
		})
	}
}

func (p *passBF16) groupSize() int { return p.group*blockPairs + slack }

func (p *passBF16) packed(block, g int) []uint32 {
	size := p.groupSize()
	at := (block*p.groups + g) * size
	return p.shared[at : at+size]
}

// packGroup rounds and packs group g of a block of the pairs [l0, l1).
func (p *passBF16) packGroup(block, g, l0, l1 int) {
	l0 += block * blockPairs
	count, dst := min(blockPairs, l1-l0), p.packed(block, g)
	for i := g * p.group; i < min((g+1)*p.group, p.m); i += p.kern.mr {
		x := p.x[min(i*p.ldx+2*l0, len(p.x)):]
		p.kern.pack(dst[(i-g*p.group)*count:], x, p.ldx, min(p.kern.mr, p.m-i), max(0, p.w.k-2*l0), count)
	}
}

// part adds the pairs [l0, l1) to the part of y at row i0 and column j0.
func (p *passBF16) part(i0, j0, l0, l1 int) {
	rows, cols := min(p.rows, p.m-i0), min(p.cols, p.w.n-j0)
	y := p.y[i0*p.ldy+j0:]
	if l0 == 0 && p.beta != 0 { // else the first values overwrite y
		scaleTile(y, p.ldy, rows, cols, p.beta)
	}
	for block := range ceilDiv(l1-l0, blockPairs) {
		l := l0 + block*blockPairs
		count := min(blockPairs, l1-l)
		for i := 0; i < rows; i += p.group {
			p.multiply(y[i*p.ldy:], p.packed(block, (i0+i)/p.group), p.w.panel(j0, l, count), min(p.group, rows-i), cols, count,
				l > 0 || p.beta != 0)
		}
	}
}

// multiply runs the kernel over a group of rows and a strip of columns.
func (p *passBF16) multiply(y []float32, a, b []uint32, rows, cols, count int, add bool) {
	mr, whole := p.kern.mr, cols/panelBF16
	for i := 0; i < rows; i += mr {
		j := 0
		if i+mr <= rows && whole > 0 {
			p.kern.strip(y[i*p.ldy:], p.ldy, a[i*count:], b, count, whole, add)
			j = whole * panelBF16
		}
		for ; j < cols; j += panelBF16 {
			p.edge(y[i*p.ldy+j:], a[i*count:], b[j*count:], min(mr, rows-i), min(panelBF16, cols-j), count, add)
		}
	}
}

// edge runs the kernel on a tile that is not whole.
func (p *passBF16) edge(y []float32, a, b []uint32, rows, cols, count int, add bool) {
	var tile [panelBF16 * panelBF16]float32
	if add {
		for i := range rows {
			copy(tile[i*panelBF16:][:cols], y[i*p.ldy:])
		}
	}
	p.kern.forRows(rows)(tile[:], panelBF16, a, b, count, 1, add)
	for i := range rows {
		copy(y[i*p.ldy:][:cols], tile[i*panelBF16:])
	}
}
