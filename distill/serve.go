package distill

import "modelpress/formats"

// serveValues is how many values are made at a time.
const serveValues = 1 << 14

// checkRead refuses a read of n bytes from off that reaches past size.
func checkRead(name string, n int, off, size int64) error {
	if off < 0 || off > size || int64(n) > size-off {
		return formats.Errorf("", name, "read of bytes [%d, %d+%d) of %d", off, off, n, size)
	}
	return nil
}

// serve fills b with the bytes of values encoded as dt from byte off on, which may lie within a value; read gives runs of them.
func serve(b []byte, off int64, dt formats.DType, read func(dst []float32, from int) error) error {
	size := dt.Size()
	buf := make([]float32, min(len(b)/size+2, serveValues))
	raw := make([]byte, 0, 8)
	for len(b) > 0 {
		from, skip := int(off/int64(size)), int(off%int64(size))
		whole := skip == 0 && len(b) >= size
		v, dst := buf[:1], raw[:size]
		if whole {
			n := min(len(b)/size, len(buf))
			v, dst = buf[:n], b[:n*size]
		}
		if err := read(v, from); err != nil {
			return err
		}
		if err := formats.Encode(dst, v, dt); err != nil {
			return err
		}
		n := len(dst)
		if !whole {
			n = copy(b, dst[skip:])
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
