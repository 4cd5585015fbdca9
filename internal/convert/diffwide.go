package convert

import (
	"encoding/binary"
	"fmt"
	"math"

	"modelpress/formats"
)

// narrow reports whether float32 holds every value of a type.
func narrow(dt formats.DType) bool { return dt.Converts() && dt != formats.F64 }

// compares reports whether values of two types can be compared: those of one type, and floats of any two.
func compares(a, b formats.DType) bool { return a == b || a.Converts() && b.Converts() }

// parts is how many numbers an element is compared as: the real and the imaginary one of a complex number.
func parts(dt formats.DType) int64 {
	if dt == formats.C64 {
		return 2
	}
	return 1
}

// decodeWide returns what is stored as float64, in dst where that has room. 64-bit integers past 2^53 are rounded.
func decodeWide(dst []float64, src []byte, dt formats.DType) ([]float64, error) {
	size := dt.Size() / int(parts(dt))
	dst = grown(dst, len(src)/size)
	if narrow(dt) {
		return dst, widen(dst, src, dt)
	}
	number, ok := numbers[dt]
	if !ok {
		return nil, fmt.Errorf("values of %s cannot be compared", dt)
	}
	for i := range dst {
		dst[i] = number(src[i*size:])
	}
	return dst, nil
}

func widen(dst []float64, src []byte, dt formats.DType) error {
	v := make([]float32, len(dst))
	if err := formats.Decode(v, src, dt); err != nil {
		return err
	}
	for i, f := range v {
		dst[i] = float64(f)
	}
	return nil
}

// numbers read the types that are not narrow.
var numbers = map[formats.DType]func(b []byte) float64{
	formats.Bool:   func(b []byte) float64 { return float64(b[0]) },
	formats.U8:     func(b []byte) float64 { return float64(b[0]) },
	formats.I8:     func(b []byte) float64 { return float64(int8(b[0])) },
	formats.U16:    func(b []byte) float64 { return float64(binary.LittleEndian.Uint16(b)) },
	formats.I16:    func(b []byte) float64 { return float64(int16(binary.LittleEndian.Uint16(b))) },
	formats.U32:    func(b []byte) float64 { return float64(binary.LittleEndian.Uint32(b)) },
	formats.I32:    func(b []byte) float64 { return float64(int32(binary.LittleEndian.Uint32(b))) },
	formats.U64:    func(b []byte) float64 { return float64(binary.LittleEndian.Uint64(b)) },
	formats.I64:    func(b []byte) float64 { return float64(int64(binary.LittleEndian.Uint64(b))) },
	formats.F64:    func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) },
	formats.C64:    func(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) },
	formats.F8E8M0: func(b []byte) float64 { return float64(formats.E8M0ToF32(b[0])) },
}
