package quantize

import (
	"fmt"

	"modelpress/formats"
)

// recipe says how a tensor of a rotated view is made from one of the source: L·W·diag(gain)·R, where L and R are block
// diagonal with orthogonal blocks. A vector is a matrix of one row.
type recipe struct {
	from  string
	info  formats.TensorInfo
	ones  bool
	gain  []float32     // by column; nil for ones
	left  []*orthogonal // transposed blocks over the rows; nil for the identity
	right []*orthogonal // blocks over the columns; nil for the identity
}

// size returns the tensor as a matrix.
func (t *recipe) size() (rows, cols int) {
	if len(t.info.Shape) == 1 {
		return 1, int(t.info.Shape[0])
	}
	return int(t.info.Shape[0]), int(t.info.Shape[1])
}

// blockRows returns how many rows can be made without any others: one, or the rows that a left block mixes.
func (t *recipe) blockRows() int {
	if t.left == nil {
		return 1
	}
	return t.left[0].n
}

// check panics where blocks and shape disagree: arch has verified the shapes of all tensors.
func (t *recipe) check() {
	rows, cols := t.size()
	if t.left != nil && len(t.left)*t.left[0].n != rows || t.right != nil && len(t.right)*t.right[0].n != cols ||
		t.gain != nil && len(t.gain) != cols {
		panic(fmt.Sprintf("quantize: tensor %s %v does not fit its rotation", t.info.Name, t.info.Shape))
	}
}

// stripColumns is how many columns are rotated at once where no right block says otherwise.
const stripColumns = 32

// compute makes rows [first, first+n), whole blocks of them.
func (t *recipe) compute(src formats.Source, first, n int) ([]float32, error) {
	_, cols := t.size()
	w := make([]float32, n*cols)
	if t.ones {
		return fill(w, 1), nil
	}
	at := int64(first) * int64(cols)
	if err := formats.ReadF32(src, t.from, w, at); err != nil {
		return nil, err
	}
	if err := formats.CheckFinite("", t.from, w, at); err != nil {
		return nil, err
	}
	strip := stripColumns
	if t.right != nil {
		strip = t.right[0].n
	}
	x, scratch := make([]float64, n*min(strip, cols)), []float64(nil)
	if t.left != nil {
		scratch = make([]float64, t.blockRows()*min(strip, cols))
	}
	for c := 0; c < cols; c += strip {
		s := min(strip, cols-c)
		t.load(x[:n*s], w, cols, c, s)
		if t.right != nil {
			t.right[c/strip].rows(x[:n*s])
		}
		if t.left != nil {
			b := t.blockRows()
			for r := 0; r < n; r += b {
				t.left[(first+r)/b].columns(x[r*s:(r+b)*s], scratch[:b*s])
			}
		}
		for r := range n {
			for j := range s {
				w[r*cols+c+j] = float32(x[r*s+j])
			}
		}
	}
	return w, nil
}

// load copies columns [c, c+s) of w to x, times the gain.
func (t *recipe) load(x []float64, w []float32, cols, c, s int) {
	for r := 0; r*s < len(x); r++ {
		for j := range s {
			v := float64(w[r*cols+c+j])
			if t.gain != nil {
				v *= float64(t.gain[c+j])
			}
			x[r*s+j] = v
		}
	}
}
