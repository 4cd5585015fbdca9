package formats

import (
	"math"

	"github.com/x448/float16"
)

// F16FromF32 rounds to IEEE 754 binary16, nearest with ties to even. Finite values past the range become infinities,
// NaNs become quiet NaNs with the top of their payload kept.
func F16FromF32(f float32) uint16 { return float16.Fromfloat32(f).Bits() }

// F16ToF32 converts IEEE 754 binary16 exactly.
func F16ToF32(h uint16) float32 { return float16.Frombits(h).Float32() }

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
