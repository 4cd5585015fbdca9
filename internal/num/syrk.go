package num

import "sync"

// gramRows is how many rows of x are summed in f32 before they join the f64 total.
const gramRows = 1024

// SyrkTN adds the weighted second moment of the rows of x [m, k] (leading dimension ldx) to c [k, k]:
//
//	c[a,b] += Σ_{i<m} scale[i] * x[i,a] * x[i,b]
//
// scale nil means all ones. Products are summed in f32 over blocks of rows, and the blocks in f64. Both halves of c get
// the same values, so that a symmetric c stays symmetric bit for bit.
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
	edge := triangleEdge(k)
	side := ceilDiv(k, edge)
	each(par, side*(side+1)/2, func(t int) {
		i, j := triangle(t)
		syrkTile(c, x, ldx, scale, m, k, i*edge, min(edge, k-i*edge), j*edge, min(edge, k-j*edge))
	})
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

// triangleEdge returns the edge of the square tiles that cover a triangle of n rows: fewer and larger ones where there
// are many.
func triangleEdge(n int) int {
	if n < 4*blockM {
		return blockM / 2
	}
	return blockM
}

// triangle returns the row and column of entry t of a lower triangle counted row by row.
func triangle(t int) (i, j int) {
	for t > i {
		i++
		t -= i
	}
	return i, t
}

var gramPool = sync.Pool{New: func() any { s := make([]float32, blockM*blockM); return &s }}

// syrkTile adds the tile of rows columns from i0 and cols from j0 (j0 <= i0), as far as it lies on or below the diagonal.
func syrkTile(c []float64, x []float32, ldx int, scale []float32, m, k, i0, rows, j0, cols int) {
	sum := gramPool.Get().(*[]float32)
	defer gramPool.Put(sum)
	s := *sum
	for r := 0; r < m; r += gramRows {
		n := min(gramRows, m-r)
		a := operand[float32]{v: x[r*ldx+i0:], ld: ldx, trans: true}
		b := operand[float32]{v: x[r*ldx+j0:], ld: ldx, trans: true}
		if scale != nil {
			a.scale = scale[r : r+n]
		}
		gemmTile(kernel32, s, cols, a, b, rows, cols, n, 1, 0, i0 == j0)
		for p := range rows {
			below := min(cols, i0+p-j0+1)
			dst := c[(i0+p)*k+j0:][:below]
			for q, v := range s[p*cols:][:below] {
				dst[q] += float64(v)
			}
		}
	}
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
