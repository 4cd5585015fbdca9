package num

// MirrorLower copies what lies below the diagonal of c [k, k] to its place above it:
//
//	c[j,i] = c[i,j] for j < i
func MirrorLower(c []float64, k int, par Par) {
	checkDims("MirrorLower", k)
	checkMat("MirrorLower", "c", len(c), k, k, k)
	const edge = 224
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

// triangle returns the row and column of entry t of a lower triangle counted row by row.
func triangle(t int) (i, j int) {
	for t > i {
		i++
		t -= i
	}
	return i, t
}
