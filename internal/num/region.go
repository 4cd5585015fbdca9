package num

// region says which elements of a square y a product computes.
type region int8

const (
	whole region = iota
	lower        // those on and below the diagonal
	upper        // those on and above the diagonal
)

// misses reports whether nothing of a block lies in the region, whose first row meets the diagonal at a column.
func (g region) misses(diagonal, rows, cols int) bool {
	return g == lower && diagonal+rows <= 0 || g == upper && diagonal >= cols
}

// tiles returns the tiles of nr columns that rows whose first one meets the diagonal at a column need: [lo, hi), of which
// [in, out) are needed whole.
func (g region) tiles(diagonal, rows, cols, nr int) (lo, in, out, hi int) {
	in, out, hi = 0, cols/nr, ceilDiv(cols, nr)
	switch g {
	case lower:
		hi = min(hi, max(0, ceilDiv(diagonal+rows, nr)))
		out = min(out, max(0, diagonal+1)/nr)
	case upper:
		lo = min(hi, max(0, diagonal)/nr)
		in = max(lo, ceilDiv(max(0, diagonal+rows-1), nr))
	}
	return lo, min(in, max(out, lo)), max(out, lo), max(hi, lo)
}

// columns returns which of n columns a row needs that meets the diagonal at a column: [from, to).
func (g region) columns(diagonal, n int) (from, to int) {
	switch g {
	case lower:
		return 0, min(n, max(0, diagonal+1))
	case upper:
		return min(n, max(0, diagonal)), n
	}
	return 0, n
}

// subtractGram subtracts b·bᵀ from the region of c [n, n], for b [n, k].
func subtractGram(c []float64, ldc int, b []float64, ldb, n, k int, g region, par Par) {
	pool := poolOf[float64]()
	s := pool.Get().(*scratch[float64])
	defer pool.Put(s)
	all := operand[float64]{v: b, ld: ldb}
	rows := split(max(n, 1), chunkM, kernel64.mr)
	for i := 0; i < n; i += rows {
		m, from, to := min(rows, n-i), 0, n
		if g == lower {
			to = i + m
		} else if g == upper {
			from = i
		}
		p := newPass(kernel64, c[i*ldc+from:], ldc, all.from(i), all.from(from), m, to-from, k, -1, 1)
		p.region, p.first = g, i-from
		p.run(s, par)
	}
}
