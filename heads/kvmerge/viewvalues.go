package kvmerge

import (
	"encoding/binary"
	"math"

	"modelpress/formats"
)

// readValues is how many values are read at once.
const readValues = 1 << 14

// readF64 fills dst with the values of a float tensor from element from on, without loss, and checks that they are finite.
func readF64(src formats.Source, t formats.TensorInfo, dst []float64, from int64) error {
	if t.DType == formats.F64 {
		return readWide(src, t.Name, dst, from)
	}
	v := make([]float32, min(len(dst), readValues))
	for len(dst) > 0 {
		v = v[:min(len(dst), len(v))]
		if err := formats.ReadF32(src, t.Name, v, from); err != nil {
			return err
		}
		if err := formats.CheckFinite("", t.Name, v, from); err != nil {
			return err
		}
		for i, x := range v {
			dst[i] = float64(x)
		}
		dst, from = dst[len(v):], from+int64(len(v))
	}
	return nil
}

// readWide is readF64 for a tensor that is stored so.
func readWide(src formats.Source, name string, dst []float64, from int64) error {
	raw := make([]byte, 8*min(len(dst), readValues))
	for len(dst) > 0 {
		n := min(len(dst), readValues)
		if err := src.ReadAt(name, raw[:8*n], 8*from); err != nil {
			return err
		}
		for i := range n {
			dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
			if math.IsNaN(dst[i]) || math.IsInf(dst[i], 0) {
				return formats.Errorf("", name, "value %v at index %d is not finite", dst[i], from+int64(i))
			}
		}
		dst, from = dst[n:], from+int64(n)
	}
	return nil
}

// copyValues copies the little-endian bytes of w from byte offset off on into p and returns how many.
func copyValues(p []byte, w []float64, off int64) int {
	n := int(min(int64(len(p)), 8*int64(len(w))-off))
	for i := 0; i < n; {
		at := off + int64(i)
		bits := math.Float64bits(w[at/8])
		if at%8 == 0 && n-i >= 8 {
			binary.LittleEndian.PutUint64(p[i:], bits)
			i += 8
			continue
		}
		p[i] = byte(bits >> (8 * (at % 8)))
		i++
	}
	return n
}
