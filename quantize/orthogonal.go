package quantize

import (
	"fmt"
	"math/rand/v2"

	"modelpress/internal/num"
)

// Kinds of random orthogonal matrices.
const (
	// Hadamard is diag(±1)·H/sqrt(n) with random signs; it exists for the sizes of [num.HadamardSizeOK] and costs n log n a
	// row. Every entry has the same magnitude, which spreads an outlier evenly.
	Hadamard = "hadamard"
	// QR is drawn uniformly from all orthogonal matrices; it exists for every size and costs n² a row.
	QR = "qr"
	// None leaves the side it is chosen for as it is.
	None = "none"
)

// RotationKind returns the kind to use for a size: Hadamard where there is one, else QR.
func RotationKind(d int) string {
	if num.HadamardSizeOK(d) {
		return Hadamard
	}
	return QR
}

// orthogonal is an orthogonal matrix Q [n, n] in float64.
type orthogonal struct {
	n     int
	signs []float64 // of a Hadamard matrix
	q     []float64 // [n, n] of any other
}

// newOrthogonal draws the matrix of a seed and a stream; different streams are independent.
func newOrthogonal(kind string, n int, seed, stream uint64) (*orthogonal, error) {
	switch kind {
	case Hadamard:
		if !num.HadamardSizeOK(n) {
			return nil, fmt.Errorf("there is no Hadamard matrix of size %d to rotate by; use kind %q", n, QR)
		}
		o := &orthogonal{n: n, signs: make([]float64, n)}
		r := rand.NewPCG(seed, stream)
		var bits uint64
		for i := range o.signs {
			if i%64 == 0 {
				bits = r.Uint64()
			}
			o.signs[i] = 1 - 2*float64(bits>>(i%64)&1)
		}
		return o, nil
	case QR:
		o := &orthogonal{n: n, q: make([]float64, n*n)}
		num.RandomOrthogonal(o.q, n, rand.New(rand.NewPCG(seed, stream)), nil)
		return o, nil
	}
	return nil, fmt.Errorf("unknown kind of rotation %q; known: %s, %s", kind, Hadamard, QR)
}

// rows replaces each row vector of x [rows, n] by x·Q.
func (o *orthogonal) rows(x []float64) {
	if o.q != nil {
		m := len(x) / o.n
		y := make([]float64, len(x))
		num.GemmNN64(y, o.n, x, o.n, o.q, o.n, m, o.n, o.n, 1, 0, nil)
		copy(x, y)
		return
	}
	for ; len(x) > 0; x = x[o.n:] {
		row := x[:o.n]
		for i, s := range o.signs {
			row[i] *= s
		}
		num.Hadamard(row)
	}
}

// columns replaces x [n, w] by Qᵀ·x, using scratch of the same size.
func (o *orthogonal) columns(x, scratch []float64) {
	w := len(x) / o.n
	transpose(scratch, x, o.n, w)
	o.rows(scratch)
	transpose(x, scratch, w, o.n)
}

// transpose writes x [rows, cols] to dst [cols, rows], in tiles that stay in cache.
func transpose(dst, x []float64, rows, cols int) {
	const tile = 32
	for i := 0; i < rows; i += tile {
		for j := 0; j < cols; j += tile {
			for a := i; a < min(i+tile, rows); a++ {
				for b := j; b < min(j+tile, cols); b++ {
					dst[b*rows+a] = x[a*cols+b]
				}
			}
		}
	}
}
