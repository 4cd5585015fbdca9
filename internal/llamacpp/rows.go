package llamacpp

import (
	"fmt"
	"slices"

	"modelpress/formats"
)

// Rows reads rows [first, first+n) of the tensor as float32, in the order of the GGUF file. dst holds n rows. A transposed tensor is read
// in columns, one stored row after the other: few rows at a time are slow.
//
// Peak memory: n rows in the type of the checkpoint, besides dst.
func (t *Tensor) Rows(src formats.Source, first, n int64, dst []float32) error {
	_, columns := t.Size()
	if err := t.checkRange(first, n, int64(len(dst)), columns); err != nil {
		return err
	}
	if t.From == "" {
		copy(dst, t.Values[first*columns:])
		return nil
	}
	info, err := t.source(src)
	if err != nil {
		return err
	}
	if t.Heads == 0 && !t.Transposed {
		return formats.ReadF32(src, t.From, dst, first*columns)
	}
	raw := make([]byte, len(dst)*info.DType.Size())
	if err := t.bytes(src, info, first, n, raw); err != nil {
		return err
	}
	if err := formats.Decode(dst, raw, info.DType); err != nil {
		return formats.Errorf("", t.From, "%w", err)
	}
	return nil
}

// Bytes reads the same rows as they are stored in the checkpoint, in its type. dst holds n rows.
//
// Peak memory: max(256 KiB, a row) besides dst; for a transposed tensor n values.
func (t *Tensor) Bytes(src formats.Source, first, n int64, dst []byte) error {
	if t.From == "" {
		return fmt.Errorf("llamacpp: tensor %q is computed and has no stored bytes", t.Name)
	}
	info, err := t.source(src)
	if err != nil {
		return err
	}
	_, columns := t.Size()
	if err := t.checkRange(first, n, int64(len(dst)), columns*int64(info.DType.Size())); err != nil {
		return err
	}
	return t.bytes(src, info, first, n, dst)
}

// checkRange checks rows and the length of what they go to, in units of which a row has so many.
func (t *Tensor) checkRange(first, n, have, row int64) error {
	rows, _ := t.Size()
	if first < 0 || n < 0 || first > rows || n > rows-first || have != n*row {
		return fmt.Errorf("llamacpp: tensor %q: %d rows from %d on of %d into a place for %d of %d", t.Name, n, first, rows, have, n*row)
	}
	return nil
}

// source returns the description of the stored tensor once it has the shape that it must have.
func (t *Tensor) source(src formats.Source) (formats.TensorInfo, error) {
	info, ok := src.Lookup(t.From)
	if !ok {
		return info, formats.Errorf("", t.From, "is missing")
	}
	want := t.Shape
	if t.Transposed {
		want = slices.Clone(want)
		slices.Reverse(want)
	}
	if !slices.Equal(info.Shape, want) {
		return info, formats.Errorf("", t.From, "shape %v where %v is needed", info.Shape, want)
	}
	if info.DType.Size() == 0 {
		return info, formats.Errorf("", t.From, "dtype %s has no size", info.DType)
	}
	return info, nil
}

func (t *Tensor) bytes(src formats.Source, info formats.TensorInfo, first, n int64, dst []byte) error {
	rows, columns := t.Size()
	unit := columns * int64(info.DType.Size())
	switch {
	case t.Transposed:
		return t.column(src, info, first, n, dst)
	case t.Heads == 0:
		return src.ReadAt(t.From, dst, first*unit)
	case t.Vector && n == 0:
		return nil
	case t.Vector: // its values are the rows of what it is added to
		rows, unit, first, n = columns, int64(info.DType.Size()), 0, columns
	}
	head := rows / int64(t.Heads)
	return eachRun(head, first, n, func(from, to, count int64) error { return t.run(src, from, to-first, count, unit, dst) })
}

// eachRun calls f for runs of stored rows that follow each other: they are every other row of the file, from row "to" on.
func eachRun(head, first, n int64, f func(from, to, count int64) error) error {
	for r := first; r < first+n; {
		base := r / head * head
		lo := r - base
		hi := min(head, lo+first+n-r)
		for half := range int64(2) {
			// Rows 2j+half of the head that lie in [lo, hi).
			j0, j1 := (lo+1-half)/2, (hi+1-half)/2
			if j0 < j1 {
				if err := f(base+half*(head/2)+j0, base+2*j0+half, j1-j0); err != nil {
					return err
				}
			}
		}
		r = base + hi
	}
	return nil
}

// runBytes bounds what is read at once.
const runBytes = 256 << 10

// run reads count stored rows from one on and puts them into every other row of dst.
func (t *Tensor) run(src formats.Source, from, to, count, unit int64, dst []byte) error {
	most := max(1, runBytes/unit)
	buf := make([]byte, min(count, most)*unit)
	for count > 0 {
		c := min(count, most)
		p := buf[:c*unit]
		if err := src.ReadAt(t.From, p, from*unit); err != nil {
			return err
		}
		for i := range c {
			copy(dst[(to+2*i)*unit:(to+2*i+1)*unit], p[i*unit:])
		}
		from, to, count = from+c, to+2*c, count-c
	}
	return nil
}

// column reads columns [first, first+n) of the stored tensor and turns them into rows.
func (t *Tensor) column(src formats.Source, info formats.TensorInfo, first, n int64, dst []byte) error {
	rows, columns := t.Size()
	size := int64(info.DType.Size())
	buf := make([]byte, n*size)
	if n == 0 {
		return nil
	}
	for i := range columns {
		if err := src.ReadAt(t.From, buf, (i*rows+first)*size); err != nil {
			return err
		}
		for r := range n {
			at := (r*columns + i) * size
			copy(dst[at:at+size], buf[r*size:])
		}
	}
	return nil
}

// Affine returns the weight, [out, in] whichever way the checkpoint stores it, with its rows in the order of the GGUF file. It is m itself
// where they keep theirs, and shares with m what belongs to columns. It panics on a weight of another shape.
func (t *Tensor) Affine(m *formats.Affine) *formats.Affine {
	rows, columns := t.Size()
	if int64(m.Out) != rows || int64(m.In) != columns {
		panic(fmt.Sprintf("llamacpp: Affine of tensor %q, shape %v, with a weight [%d, %d]", t.Name, t.Shape, m.Out, m.In))
	}
	if t.Heads == 0 {
		return m
	}
	p := *m
	p.Codes, p.Scales = make([]int8, len(m.Codes)), make([]float32, len(m.Scales))
	if m.Zeros != nil {
		p.Zeros = make([]int8, len(m.Zeros))
	}
	g := m.Groups()
	_ = eachRun(rows/int64(t.Heads), 0, rows, func(from, to, count int64) error {
		for i := range int(count) {
			f, d := int(from)+i, int(to)+2*i
			copy(p.Codes[d*m.In:(d+1)*m.In], m.Codes[f*m.In:])
			copy(p.Scales[d*g:(d+1)*g], m.Scales[f*g:])
			if m.Zeros != nil {
				copy(p.Zeros[d*g:(d+1)*g], m.Zeros[f*g:])
			}
		}
		return nil
	})
	return &p
}
