package llamacpp

import (
	"modelpress/formats"
	"modelpress/formats/ggml"
)

// blockValues bounds how many values are dequantized at once.
const blockValues = 1 << 15

// ReadAt fills p with the bytes of a tensor as the checkpoint has it. Blocks are dequantized range by range.
//
// Peak memory: max(256 KiB, a vector).
func (v *view) ReadAt(name string, p []byte, off int64) error {
	s, ok := v.index[name]
	if !ok {
		return formats.Errorf(v.file.Name(), name, "no such tensor")
	}
	if off < 0 || off > s.size || int64(len(p)) > s.size-off {
		return formats.Errorf(v.file.Name(), name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), s.size)
	}
	if len(p) == 0 {
		return nil
	}
	unit := int64(s.info.DType.Size())
	lo, hi := off/unit, (off+int64(len(p))+unit-1)/unit
	if lo*unit == off && (hi-lo)*unit == int64(len(p)) {
		return v.elements(s, p, lo)
	}
	whole := make([]byte, (hi-lo)*unit)
	if err := v.elements(s, whole, lo); err != nil {
		return err
	}
	copy(p, whole[off-lo*unit:])
	return nil
}

// elements reads whole values from one on.
func (v *view) elements(s *shown, p []byte, first int64) error {
	rows, columns := s.how.Size()
	unit := int64(s.info.DType.Size())
	switch {
	case s.how.Transposed:
		return v.columns(s, p, first)
	case s.how.Heads == 0:
		return v.values(s, 0, first, rows*columns, p)
	case s.how.Vector:
		all := make([]byte, columns*unit)
		if err := v.values(s, 0, 0, columns, all); err != nil {
			return err
		}
		for i := range int64(len(p)) / unit {
			at := s.how.fileRow(first+i) * unit
			copy(p[i*unit:(i+1)*unit], all[at:])
		}
		return nil
	}
	for len(p) > 0 {
		r, c := first/columns, first%columns
		n := min(columns-c, int64(len(p))/unit)
		if err := v.values(s, s.how.fileRow(r), c, columns, p[:n*unit]); err != nil {
			return err
		}
		p, first = p[n*unit:], first+n
	}
	return nil
}

// values reads stored values from one of a row on, in the type that is shown. width is the length of a row: of all values where rows
// follow each other.
func (v *view) values(s *shown, row, first, width int64, p []byte) error {
	unit := int64(s.info.DType.Size())
	if _, ok := plain[s.typ]; ok {
		return v.file.ReadAt(s.how.Name, p, (row*width+first)*unit)
	}
	block, size := int64(s.typ.Block()), int64(s.typ.Size())
	buf := make([]byte, 0)
	var dense []float32
	for len(p) > 0 {
		lo := first / block
		hi := min((first+int64(len(p))/unit+block-1)/block, lo+blockValues/block)
		n := int(hi - lo)
		if cap(buf) < n*int(size) {
			buf, dense = make([]byte, n*int(size)), make([]float32, n*int(block))
		}
		raw, out := buf[:n*int(size)], dense[:n*int(block)]
		if err := v.file.ReadAt(s.how.Name, raw, (row*width/block+lo)*size); err != nil {
			return err
		}
		if err := ggml.Dequantize(s.typ, out, raw); err != nil {
			return formats.Errorf(v.file.Name(), s.how.Name, "%w", err)
		}
		out = out[first-lo*block:]
		out = out[:min(int64(len(out)), int64(len(p))/unit)]
		if err := formats.Encode(p[:int64(len(out))*unit], out, formats.F32); err != nil {
			return formats.Errorf(v.file.Name(), s.how.Name, "%w", err)
		}
		p, first = p[int64(len(out))*unit:], first+int64(len(out))
	}
	return nil
}

// columns reads values of a tensor that the file has the other way round: a few columns of each of its rows.
func (v *view) columns(s *shown, p []byte, first int64) error {
	rows, width := s.how.Size() // of the file; the checkpoint has [width, rows]
	unit := int64(s.info.DType.Size())
	last := first + int64(len(p))/unit // one past
	c0, c1 := first/rows, (last-1)/rows+1
	strip := max(1, min(c1-c0, blockValues))
	buf := make([]byte, strip*unit)
	for c := c0; c < c1; c += strip {
		n := min(strip, c1-c)
		for r := range rows {
			part := buf[:n*unit]
			if err := v.values(s, r, c, width, part); err != nil {
				return err
			}
			for i := range n {
				if at := (c+i)*rows + r; at >= first && at < last {
					copy(p[(at-first)*unit:(at-first+1)*unit], part[i*unit:])
				}
			}
		}
	}
	return nil
}
