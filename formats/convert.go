package formats

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"unsafe"

	"modelpress/internal/num"
)

// Decode converts len(dst) little-endian values of type dt to float32. src must hold exactly that many. F64 rounds to
// nearest even, the others convert exactly; types for which [DType.Converts] is false are an error.
func Decode(dst []float32, src []byte, dt DType) error {
	if err := checkConversion(len(dst), len(src), dt); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	switch dt {
	case F8E4M3:
		decode8(dst, src, &e4m3Table)
	case F8E5M2:
		decode8(dst, src, &e5m2Table)
	case BF16:
		num.DecodeBF16(dst, src)
	case F16:
		num.DecodeF16(dst, src)
	case F32:
		if raw := bytesOf(dst); raw != nil {
			copy(raw, src)
			break
		}
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		}
	}
	return nil
}

// Encode converts src to little-endian values of type dt, rounding to nearest with ties to even. dst must have exactly
// the bytes for them; types for which [DType.Converts] is false are an error. Values past the range of F16 and F8_E5M2 become
// infinities, those past the range of F8_E4M3 its largest value: see [CheckRange].
func Encode(dst []byte, src []float32, dt DType) error {
	if err := checkConversion(len(src), len(dst), dt); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	switch dt {
	case F8E4M3:
		encode8(dst, src, E4M3FromF32)
	case F8E5M2:
		encode8(dst, src, E5M2FromF32)
	case BF16:
		num.EncodeBF16(dst, src)
	case F16:
		num.EncodeF16(dst, src)
	case F32:
		if raw := bytesOf(src); raw != nil {
			copy(dst, raw)
			break
		}
		for i, f := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(f))
		}
	case F64:
		for i, f := range src {
			binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(float64(f)))
		}
	}
	return nil
}

// bytesOf returns the memory of v where it is what a file holds: on little-endian machines. It is nil elsewhere and for no
// values.
func bytesOf(v []float32) []byte {
	if len(v) == 0 || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))
}

func checkConversion(values, bytes int, dt DType) error {
	if !dt.Converts() {
		return fmt.Errorf("no float32 conversion for dtype %s", dt)
	}
	if values > math.MaxInt/dt.Size() || bytes != values*dt.Size() {
		return fmt.Errorf("%d bytes do not hold %d values of %s", bytes, values, dt)
	}
	return nil
}

// chunkBytes is what ReadF32 reads at once: small enough to stay in the second-level cache between read and conversion.
const chunkBytes = 256 << 10

var chunks = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// ReadF32 fills dst with the values of a tensor from element elemOff on, converted to float32.
func ReadF32(src Source, name string, dst []float32, elemOff int64) error {
	t, ok := src.Lookup(name)
	if !ok {
		return Errorf("", name, "no such tensor")
	}
	n, err := t.Elements()
	if err != nil {
		return Errorf("", name, "%w", err)
	}
	if !t.DType.Converts() {
		return Errorf("", name, "dtype %s where a float type (F8_E4M3, F8_E5M2, F16, BF16, F32, F64) is needed", t.DType)
	}
	if elemOff < 0 || elemOff > n || int64(len(dst)) > n-elemOff {
		return Errorf("", name, "read of elements [%d, %d+%d) of %d", elemOff, elemOff, len(dst), n)
	}
	buf := chunks.Get().(*[chunkBytes]byte)
	defer chunks.Put(buf)
	size := int64(t.DType.Size())
	for len(dst) > 0 {
		c := min(len(dst), chunkBytes/int(size))
		p := buf[:c*int(size)]
		if err := src.ReadAt(name, p, elemOff*size); err != nil {
			return err
		}
		if err := Decode(dst[:c], p, t.DType); err != nil {
			return Errorf("", name, "%w", err)
		}
		dst, elemOff = dst[c:], elemOff+int64(c)
	}
	return nil
}
