package prune

import (
	"encoding/binary"
	"math"
	"sync"

	"modelpress/formats"
)

// sliced is one tensor of a view. A vector is a matrix of one row.
type sliced struct {
	info       formats.TensorInfo // as shown
	from       formats.TensorInfo // as stored
	rows, cols *axis              // nil for a tensor that is shown as it is
	divide     bool               // by the scale
}

// spanBytes is how much is read at once to pick columns from; pieceValues how many values are scaled at once.
const (
	spanBytes   = 256 << 10
	pieceValues = 16 << 10
)

// scratch is what one read needs.
type scratch struct {
	span  [spanBytes]byte
	raw   [8 * pieceValues]byte
	value [pieceValues]float32
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (t *sliced) scaled() bool { return t.rows != nil && (t.rows.scale != nil || t.cols.scale != nil) }

func (t *sliced) whole() bool { return t.rows == nil || t.rows.whole() && t.cols.whole() }

// read fills p with the bytes of the tensor from off on, which it has.
func (t *sliced) read(src formats.Source, p []byte, off int64) error {
	if t.whole() && !t.scaled() {
		return src.ReadAt(t.from.Name, p, off)
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	size := int64(t.info.DType.Size())
	for len(p) > 0 {
		first, lead := off/size, off%size
		if n := int64(len(p)) / size * size; lead == 0 && n > 0 {
			if err := t.values(src, p[:n], int(first), s); err != nil {
				return err
			}
			p, off = p[n:], off+n
			continue
		}
		var one [8]byte // part of an element
		if err := t.values(src, one[:size], int(first), s); err != nil {
			return err
		}
		n := copy(p, one[lead:size])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// values fills p with whole elements from element first on.
func (t *sliced) values(src formats.Source, p []byte, first int, s *scratch) error {
	if !t.scaled() {
		return t.gather(src, p, first, s)
	}
	size := t.from.DType.Size()
	for len(p) > 0 {
		n := min(len(p)/8, pieceValues)
		raw := s.raw[:n*size]
		if err := t.gather(src, raw, first, s); err != nil {
			return err
		}
		if err := t.multiply(p[:8*n], raw, first, s); err != nil {
			return err
		}
		p, first = p[8*n:], first+n
	}
	return nil
}

// multiply scales stored elements, from element first of the tensor on, into 64-bit ones.
func (t *sliced) multiply(p, raw []byte, first int, s *scratch) error {
	n := len(p) / 8
	wide := t.from.DType == formats.F64
	if !wide {
		if err := formats.Decode(s.value[:n], raw, t.from.DType); err != nil {
			return formats.Errorf("", t.info.Name, "%w", err)
		}
	}
	for i := 0; i < n; {
		row, col := (first+i)/t.cols.kept, (first+i)%t.cols.kept
		f := 1.0
		if t.rows.scale != nil {
			f = t.rows.scale[row]
		}
		for ; i < n && col < t.cols.kept; i, col = i+1, col+1 {
			var v float64
			if wide {
				v = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
			} else {
				v = float64(s.value[i])
			}
			by := f
			if t.cols.scale != nil {
				by *= t.cols.scale[col]
			}
			if t.divide {
				v /= by
			} else {
				v *= by
			}
			if !(math.Abs(v) <= math.MaxFloat32) {
				return formats.Errorf("", t.info.Name, "prune: value %v at index %d, once scaled, is no finite 32-bit float", v, first+i)
			}
			binary.LittleEndian.PutUint64(p[8*i:], math.Float64bits(v))
		}
	}
	return nil
}

// gather fills p with stored elements, from element first of the tensor on.
func (t *sliced) gather(src formats.Source, p []byte, first int, s *scratch) error {
	size := t.from.DType.Size()
	for len(p) > 0 {
		n, err := t.block(src, p, first/t.cols.kept, first%t.cols.kept, s)
		if err != nil {
			return err
		}
		p, first = p[n*size:], first+n
	}
	return nil
}

// block copies stored elements from a row and column on to p, as many as one read of the source gives, and returns how many.
func (t *sliced) block(src formats.Source, p []byte, row, col int, s *scratch) (int, error) {
	size, width := t.from.DType.Size(), t.cols.size
	want := len(p) / size
	from, rows := t.rows.at(row)
	offset := func(r, c int) int64 { return (int64(r)*int64(width) + int64(c)) * int64(size) }
	if t.cols.whole() {
		n := min(want, rows*width-col)
		return n, src.ReadAt(t.from.Name, p[:n*size], offset(from, col))
	}
	lo, hi, end := t.cols.reach(col, min(t.cols.kept, col+want), spanBytes/size)
	if col > 0 || end < t.cols.kept {
		span := s.span[:(hi-lo)*size]
		if err := src.ReadAt(t.from.Name, span, offset(from, lo)); err != nil {
			return 0, err
		}
		t.cols.pick(p, span, col, end, lo, size)
		return end - col, nil
	}
	// Whole rows, with what lies between them in the source.
	rows = min(rows, want/t.cols.kept, 1+(spanBytes/size-(hi-lo))/width)
	span := s.span[:((rows-1)*width+hi-lo)*size]
	if err := src.ReadAt(t.from.Name, span, offset(from, lo)); err != nil {
		return 0, err
	}
	for r := range rows {
		t.cols.pick(p[r*t.cols.kept*size:], span[r*width*size:], 0, end, lo, size)
	}
	return rows * t.cols.kept, nil
}
