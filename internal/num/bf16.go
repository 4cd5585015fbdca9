package num

// Matrix products on bfloat16 with sums in float32: a class of precision of its own, which callers choose. Both operands
// are held as pairs of neighbours along the summed dimension, the even one in the low half of a word.
const (
	blockPairs = 256 // pairs of the summed dimension per pass
	pairUnit   = 16  // the summed dimension is filled up with zeros to a multiple of these pairs
	panelBF16  = 32  // columns of a panel of packed weights
)

// PackedBF16 is a matrix of weights [n, k] in bfloat16, in the order in which the kernels read it: for every block of
// blockPairs pairs the panels of 32 rows one after the other, in each for every pair the 32 words of the rows. It takes
// 2 bytes per element, with n filled up to a multiple of 32 and k to one of 32.
type PackedBF16 struct {
	n, k  int
	words []uint32
}

// Size returns the rows and the columns.
func (p *PackedBF16) Size() (n, k int) { return p.n, p.k }

// Bytes returns the memory that the matrix takes.
func (p *PackedBF16) Bytes() int64 { return 4 * int64(len(p.words)) }

// pairs returns the pairs of the summed dimension, filled up.
func pairs(k int) int { return ceilDiv(k, 2*pairUnit) * pairUnit }

// panel returns count pairs of the panel of row i (a multiple of panelBF16) from pair l0 (of blockPairs), and what follows.
func (p *PackedBF16) panel(i, l0, count int) []uint32 {
	rows := ceilDiv(p.n, panelBF16) * panelBF16
	return p.words[l0*rows+i*count:]
}

// PackBF16 packs w [n, k], rounding to the nearest bfloat16 (ties to even, denormals to
// zero) what is not in bfloat16 already.
func PackBF16(w Weights, n, k int, par Par) *PackedBF16 {
	checkDims("PackBF16", n, k)
	checkMat("PackBF16", "w", w.Len(), n, k, w.LD)
	total := pairs(k)
	panels, blocks := ceilDiv(n, panelBF16), ceilDiv(total, blockPairs)
	p := &PackedBF16{n: n, k: k, words: make([]uint32, panels*panelBF16*total)}
	each(par, panels, func(i int) {
		var rows [panelBF16][2 * blockPairs]uint16
		for b := range blocks {
			l0 := b * blockPairs
			count := min(blockPairs, total-l0)
			for r := range min(panelBF16, n-i*panelBF16) {
				w.bf16(rows[r][:2*count], i*panelBF16+r, 2*l0, k)
			}
			weavePanel(p.panel(i*panelBF16, l0, count)[:count*panelBF16], &rows, count)
		}
	})
	return p
}

// bf16 writes the values of row i from column at on to dst, and zeros past column k.
func (w Weights) bf16(dst []uint16, i, at, k int) {
	n := min(len(dst), k-at)
	clear(dst[n:])
	dst = dst[:n]
	switch from := i*w.LD + at; {
	case w.U16 == nil:
		narrow(dst, w.F32[from:from+n])
	case w.BF16:
		copy(dst, w.U16[from:from+n])
	default:
		var values [blockPairs]float32
		for len(dst) > 0 {
			part := values[:min(len(dst), len(values))]
			F16ToF32(part, w.U16[from:from+len(part)])
			narrow(dst, part)
			dst, from = dst[len(part):], from+len(part)
		}
	}
}

// narrow rounds src to bfloat16 as the kernels round activations.
func narrow(dst []uint16, src []float32) {
	for i := roundRow(dst, src); i < len(src); i++ {
		dst[i] = uint16(roundBF16(src[i]))
	}
}

// weaveGeneric writes count pairs of 32 rows as dst[l*32+r].
func weaveGeneric(dst []uint32, rows *[panelBF16][2 * blockPairs]uint16, count int) {
	for r := range rows {
		for l := range count {
			dst[l*panelBF16+r] = uint32(rows[r][2*l]) | uint32(rows[r][2*l+1])<<16
		}
	}
}

// Row writes the bfloat16 values of row i from column at on to dst.
func (p *PackedBF16) Row(dst []uint16, i, at int) {
	if i < 0 || i >= p.n || at < 0 || at+len(dst) > p.k {
		panic("num: PackedBF16.Row: outside of the matrix")
	}
	total := pairs(p.k)
	for j := range dst {
		l := (at + j) / 2
		l0 := l / blockPairs * blockPairs
		word := p.panel(i/panelBF16*panelBF16, l0, min(blockPairs, total-l0))[(l-l0)*panelBF16+i%panelBF16]
		dst[j] = uint16(word >> ((at + j) % 2 * 16))
	}
}
