package formats

// columnBytes bounds what ReadColumns reads at once.
const columnBytes = 1 << 20

// ReadColumns reads the columns [first, first+n) of a stored matrix, and calls f with the little-endian data of each row, in order; f
// must not keep it. Whole rows are read many at a time, parts of rows one by one. The tensor must have two dimensions, and the columns
// must be within them.
//
// Peak memory: 1 MiB, or one row where that is more.
func ReadColumns(src Source, name string, first, n int, f func(row int, b []byte)) error {
	t, ok := src.Lookup(name)
	if !ok || len(t.Shape) != 2 {
		return Errorf("", name, "no tensor of two dimensions")
	}
	rows, width, size := t.Shape[0], t.Shape[1], int64(t.DType.Size())
	if first < 0 || n <= 0 || int64(n) > width-int64(first) || size == 0 {
		return Errorf("", name, "columns [%d, %d+%d) of %s %v", first, first, n, t.DType, t.Shape)
	}
	part := int64(n) * size
	step := int64(1)
	if int64(n) == width {
		step = max(1, columnBytes/part)
	}
	buf := make([]byte, min(step, rows)*part)
	for r := int64(0); r < rows; r += step {
		k := min(step, rows-r)
		if err := src.ReadAt(name, buf[:k*part], (r*width+int64(first))*size); err != nil {
			return err
		}
		for i := range k {
			f(int(r+i), buf[i*part:(i+1)*part])
		}
	}
	return nil
}

// ReadColumnsF32 fills dst, [n, rows], with the values of the columns [first, first+n) of a stored matrix [rows, width] of a float type: its
// transpose. Values must be finite; where stands for the file in errors.
func ReadColumnsF32(src Source, where, name string, dst []float32, first, n int) error {
	t, _ := src.Lookup(name)
	row := make([]float32, n)
	var bad error
	err := ReadColumns(src, name, first, n, func(r int, b []byte) {
		if bad != nil {
			return
		}
		if bad = Decode(row, b, t.DType); bad != nil {
			return
		}
		bad = CheckFinite(where, name, row, int64(r)*t.Shape[1]+int64(first))
		for i, v := range row {
			dst[int64(i)*t.Shape[0]+int64(r)] = v
		}
	})
	if err != nil {
		return err
	}
	return bad
}
