package quantize

import (
	"fmt"

	"modelpress/formats"
	"modelpress/internal/device"
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
	mixer device.Mixer  // what multiplies where that pays; nil for the host
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

// pieceValues is about how many values one body of a parallel loop takes.
const pieceValues = 1 << 15

// compute makes rows [first, first+n), whole blocks of them.
func (t *recipe) compute(src formats.Source, first, n int, par Par) ([]float32, error) {
	_, cols := t.size()
	w := make([]float32, n*cols)
	if t.ones {
		return fill(w, 1), nil
	}
	step := max(1, pieceValues/max(1, cols))
	pieces := (n + step - 1) / step
	piece := func(i int) []float32 { return w[i*step*cols : min((i+1)*step, n)*cols] }
	errs := make([]error, pieces)
	each(pieces, par, func(i int) {
		at := int64(first+i*step) * int64(cols)
		if errs[i] = formats.ReadF32(src, t.from, piece(i), at); errs[i] == nil {
			errs[i] = formats.CheckFinite("", t.from, piece(i), at)
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	if t.onDevice(len(w)) {
		return w, t.mixer.Mix(w, n, cols, t.gain, orthogonals(t.blocks(first, n)), orthogonals(t.right))
	}
	strip := min(cols, stripColumns)
	if t.right != nil {
		strip = t.right[0].n
	}
	strips := (cols + strip - 1) / strip
	if t.left == nil {
		each(pieces, par, func(i int) {
			for c := range strips {
				t.mix(piece(i), first+i*step, c, strip)
			}
		})
	} else {
		each(strips, par, func(c int) { t.mix(w, first, c, strip) })
	}
	return w, nil
}

// onDevice reports whether so many values are rotated on a device: not where a fast transform of rows takes a host of some cores less time than
// the way there and back.
func (t *recipe) onDevice(values int) bool {
	const least = 1 << 12
	return t.mixer != nil && values >= least && (t.left != nil || t.right != nil && t.right[0].q != nil)
}

// blocks returns the left blocks of rows [first, first+n).
func (t *recipe) blocks(first, n int) []*orthogonal {
	if t.left == nil {
		return nil
	}
	b := t.blockRows()
	return t.left[first/b : (first+n)/b]
}

// orthogonals are matrices in the terms of a device.
func orthogonals(list []*orthogonal) []device.Orthogonal {
	var all []device.Orthogonal
	for _, o := range list {
		all = append(all, device.Orthogonal{N: o.n, Signs: o.signs, Values: o.q})
	}
	return all
}

// mix rotates strip number c of w, whose rows are those from first on, in float64.
func (t *recipe) mix(w []float32, first, c, strip int) {
	_, cols := t.size()
	n, at := len(w)/cols, c*strip
	s := min(strip, cols-at)
	x := make([]float64, n*s)
	t.load(x, w, cols, at, s)
	if t.right != nil {
		t.right[c].rows(x)
	}
	if t.left != nil {
		b := t.blockRows()
		scratch := make([]float64, b*s)
		for r := 0; r < n; r += b {
			t.left[(first+r)/b].columns(x[r*s:(r+b)*s], scratch)
		}
	}
	for r := range n {
		row := w[r*cols+at:][:s]
		for j, v := range x[r*s:][:s] {
			row[j] = float32(v)
		}
	}
}

// load copies columns [c, c+s) of w to x, times the gain.
func (t *recipe) load(x []float64, w []float32, cols, c, s int) {
	for r := 0; r*s < len(x); r++ {
		row := x[r*s:][:s]
		for j, v := range w[r*cols+c:][:s] {
			row[j] = float64(v)
		}
		if t.gain != nil {
			for j, g := range t.gain[c:][:s] {
				row[j] *= float64(g)
			}
		}
	}
}
