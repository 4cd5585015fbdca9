package formats

import "math"

// E2M1Max is the largest value of E2M1.
const E2M1Max = 6

// e2m1Table holds the values of E2M1, the 4-bit float of the OCP specification of microscaling formats: a sign, 2 bits of exponent with
// bias 1 and 1 of mantissa; neither infinities nor NaNs.
var e2m1Table = [16]float32{0, 0.5, 1, 1.5, 2, 3, 4, 6, float32(math.Copysign(0, -1)), -0.5, -1, -1.5, -2, -3, -4, -6}

// E2M1FromF32 rounds to E2M1, nearest with ties to even. Values past the range become ±6, a NaN 0. The code is in the low 4 bits.
func E2M1FromF32(f float32) uint8 {
	b := math.Float32bits(f)
	sign, a := uint8(b>>28)&8, b&0x7fffffff
	if a > expMask {
		return 0
	}
	return sign | uint8(roundSmall(min(a, math.Float32bits(E2M1Max)), 1, 0))
}

// E2M1ToF32 converts E2M1 exactly. It looks at the low 4 bits.
func E2M1ToF32(b uint8) float32 { return e2m1Table[b&15] }
