package formats

import (
	"math"

	"modelpress/internal/num"
)

const expMask = 0x7f800000 // exponent bits of a float32: all set in infinities and NaNs

// CheckFinite returns an error that names the first NaN or infinity among values decoded from a tensor; base is the
// index of v[0] in the tensor. file may be empty.
func CheckFinite(file, tensor string, v []float32, base int64) error {
	// A pass over all decides nearly always; only values of which one is bad are searched for it.
	if num.MagnitudeBits(v) < expMask {
		return nil
	}
	for i, f := range v {
		if math.Float32bits(f)&expMask == expMask {
			return Errorf(file, tensor, "value %v at index %d is not finite", f, base+int64(i))
		}
	}
	return nil
}

// CheckFiniteTensor reads a whole float tensor and returns what [CheckFinite] says of it.
func CheckFiniteTensor(src Source, name string) error {
	t, ok := src.Lookup(name)
	if !ok {
		return Errorf("", name, "no such tensor")
	}
	n, err := t.Elements()
	if err != nil {
		return Errorf("", name, "%w", err)
	}
	const chunk = 64 << 10
	buf := make([]float32, min(n, chunk))
	for at := int64(0); at < n; at += chunk {
		v := buf[:min(chunk, n-at)]
		if err := ReadF32(src, name, v, at); err != nil {
			return err
		}
		if err := CheckFinite("", name, v, at); err != nil {
			return err
		}
	}
	return nil
}

// CheckRange returns an error that names the first finite value which would become infinite when it is stored as dt. F8_E4M3 has no infinities: there it
// is a value more than half a step above the largest.
func CheckRange(file, tensor string, v []float32, dt DType, base int64) error {
	// The largest float32 below each bound still rounds to the largest finite value of the type.
	var bound float32
	switch dt {
	case F16:
		bound = 65520
	case BF16:
		bound = math.Float32frombits(0x7f7f8000)
	case F8E5M2:
		bound = 61440
	case F8E4M3:
		bound = math.Nextafter32(464, 465) // 464 itself lies halfway between 448 and 480 and rounds to even
	default:
		return nil
	}
	if num.MagnitudeBits(v) < math.Float32bits(bound) {
		return nil
	}
	for i, f := range v {
		if a := math.Abs(float64(f)); a >= float64(bound) && !math.IsInf(a, 1) {
			return Errorf(file, tensor, "value %v at index %d does not fit in %s", f, base+int64(i), dt)
		}
	}
	return nil
}
