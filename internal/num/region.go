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
