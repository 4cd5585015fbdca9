package kvmerge

import (
	"math"

	"modelpress/formats"
	"modelpress/internal/num"
)

// mergedTensor is one tensor of a view. A vector is a matrix of one row.
//
// It is made a unit at a time: a block of K rows where rows are mixed, some whole rows where columns are.
type mergedTensor struct {
	info  formats.TensorInfo // as shown
	from  formats.TensorInfo // as stored
	layer int
	k     int
	rows  bool // blocks of rows are mixed, not of columns
	out   bool // the output projection, which Maps.Output may replace
	blockMap
}

// ViewValues bounds the values of a unit of independent rows that a [View] makes at a time, unless one row has more.
const ViewValues = 1 << 18

// matrixSize returns a shape's rows and columns.
func matrixSize(t formats.TensorInfo) (rows, cols int) {
	if len(t.Shape) == 1 {
		return 1, int(t.Shape[0])
	}
	return int(t.Shape[0]), int(t.Shape[1])
}

// chunkRows is how many independent rows are made at once.
func (t *mergedTensor) chunkRows() int {
	_, before := matrixSize(t.from)
	_, after := matrixSize(t.info)
	return max(1, ViewValues/max(1, before, after))
}

// locate returns the unit that holds byte off, the offset of its first byte in the copy of it that off lies in, and whether that
// is the last copy.
func (t *mergedTensor) locate(off int64) (unit int, base int64, last bool) {
	_, cols := matrixSize(t.info)
	if !t.rows {
		bytes := 8 * int64(cols) * int64(t.chunkRows())
		return int(off / bytes), off / bytes * bytes, true
	}
	bytes := 8 * int64(cols) * int64(t.k)
	i := int(off / bytes)
	return t.at[i], int64(i) * bytes, i+1 == len(t.at) || t.at[i+1] != t.at[i]
}

// compute makes a unit. m may be nil where no block is mapped.
func (t *mergedTensor) compute(src formats.Source, m *Maps, unit int, par num.Par) ([]float64, error) {
	mix := t.mixColumns
	if t.rows {
		mix = t.mixRows
	}
	if t.out && m != nil && m.Output != nil {
		return t.fitted(m.Output, unit), nil // checked with the maps
	}
	w, err := mix(src, m, unit, par)
	if err != nil {
		return nil, err
	}
	if !finite(w) {
		return nil, formats.Errorf("", t.info.Name, "kvmerge: a merged value of layer %d is not finite", t.layer)
	}
	return w, nil
}

// mixRows makes a block of K rows: Σ E·W_j, or Dᵀ·W_j.
func (t *mergedTensor) mixRows(src formats.Source, m *Maps, unit int, par num.Par) ([]float64, error) {
	_, cols := matrixSize(t.info)
	k := t.k
	y, x := make([]float64, k*cols), make([]float64, k*cols)
	beta := 0.0
	for _, s := range t.blocks[unit] {
		if err := readF64(src, t.from, x, int64(s.block)*int64(k*cols)); err != nil {
			return nil, err
		}
		switch a, encodes := s.matrix(m); {
		case a == nil:
			copy(y, x)
		case encodes:
			num.GemmNN64(y, cols, a, k, x, cols, k, cols, k, 1, beta, par)
		default:
			num.GemmTN64(y, cols, a, k, x, cols, k, cols, k, 1, beta, par)
		}
		beta = 1
	}
	return y, nil
}

// mixColumns makes the rows of a unit, whose blocks of K columns are Σ W_j·Eᵀ, or W_j·D.
func (t *mergedTensor) mixColumns(src formats.Source, m *Maps, unit int, par num.Par) ([]float64, error) {
	rows, old := matrixSize(t.from)
	_, cols := matrixSize(t.info)
	first := unit * t.chunkRows()
	n := min(t.chunkRows(), rows-first)
	x := make([]float64, n*old)
	if err := readF64(src, t.from, x, int64(first)*int64(old)); err != nil {
		return nil, err
	}
	y := make([]float64, n*cols)
	places := make([]int, len(t.blocks)) // the first copy of each block
	for i := len(t.at) - 1; i >= 0; i-- {
		places[t.at[i]] = i
	}
	inParallel(par, len(t.blocks), func(b int) {
		i, k := places[b], t.k
		t.sumColumns(y[i*k:], cols, x, old, m, n, t.blocks[b])
		for c := i + 1; c < len(t.at) && t.at[c] == b; c++ {
			for r := range n {
				copy(y[r*cols+c*k:][:k], y[r*cols+i*k:][:k])
			}
		}
	})
	return y, nil
}

// fitted takes a unit from the output projection w [D, H·K], which may be stored transposed.
func (t *mergedTensor) fitted(w []float32, unit int) []float64 {
	rows, cols := matrixSize(t.info)
	if !t.rows {
		first := unit * t.chunkRows() * cols
		part := w[first:min(first+t.chunkRows()*cols, len(w))]
		y := make([]float64, len(part))
		for i, v := range part {
			y[i] = float64(v)
		}
		return y
	}
	y := make([]float64, t.k*cols)
	for r := range t.k {
		for c := range cols {
			y[r*cols+c] = float64(w[c*rows+unit*t.k+r])
		}
	}
	return y
}

// sumColumns makes one block of columns of n rows.
func (t *mergedTensor) sumColumns(y []float64, cols int, x []float64, old int, m *Maps, n int, sum []summand) {
	k, beta := t.k, 0.0
	for _, s := range sum {
		xs := x[s.block*k:]
		switch a, encodes := s.matrix(m); {
		case a == nil:
			for r := range n {
				copy(y[r*cols:][:k], xs[r*old:][:k])
			}
		case encodes:
			num.GemmNT64(y, cols, xs, old, a, k, n, k, k, 1, beta, nil)
		default:
			num.GemmNN64(y, cols, xs, old, a, k, n, k, k, 1, beta, nil)
		}
		beta = 1
	}
}

// finite reports whether v holds neither a NaN nor an infinity.
func finite(v []float64) bool {
	for _, x := range v {
		if math.IsNaN(x - x) { // infinite or NaN
			return false
		}
	}
	return true
}

// inParallel runs body(0..n-1) on par, or in a loop where par is nil.
func inParallel(par num.Par, n int, body func(i int)) {
	if par != nil && n > 1 {
		par(n, body)
		return
	}
	for i := range n {
		body(i)
	}
}
