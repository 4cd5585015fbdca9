package formats

import "math"

// The 8-bit floats of the OCP specification OFP8 (revision 1.0): E4M3 has a sign, 4 bits of exponent with bias 7 and 3 of mantissa, no
// infinities, one NaN of each sign (S.1111.111) and a largest value of 448. E5M2 has 5 bits of exponent with bias 15 and 2 of
// mantissa, infinities and NaNs like binary16, and a largest value of 57344. E8M0 is the scale of the OCP specification of
// microscaling formats (MX, revision 1.0): a power of two, without sign or zero.

// E4M3Max is the largest value of E4M3.
const E4M3Max = 448

var e4m3Table, e5m2Table = smallTable(4, 3), smallTable(5, 2)

// smallTable returns the values of all codes of a float of 8 bits with exp bits of exponent and man of mantissa.
func smallTable(exp, man int) (t [256]float32) {
	bias := 1<<(exp-1) - 1
	for b := range t {
		e, m := b&0x7f>>man, float64(b&(1<<man-1))
		v := math.Ldexp(m, 1-bias-man)
		if e > 0 {
			v = math.Ldexp(m+float64(int(1)<<man), e-bias-man)
		}
		switch {
		case exp == 4 && b&0x7f == 0x7f, exp == 5 && e == 31 && m > 0:
			v = math.NaN()
		case exp == 5 && e == 31:
			v = math.Inf(1)
		}
		if b >= 0x80 {
			v = -v
		}
		t[b] = float32(v)
	}
	return t
}

// roundSmall rounds the bits of a float32 without its sign, no NaN, to nearest, ties to even, as a float with man bits of mantissa
// whose smallest normal value is 2^emin. The result is exponent and mantissa together; it grows without bound.
func roundSmall(a uint32, man uint, emin int) uint32 {
	if a < uint32(emin+127)<<23 {
		// The sum has the spacing of the subnormal values, 2^(emin-man), so that the addition rounds.
		magic := uint32(emin-int(man)+23+127) << 23
		return math.Float32bits(math.Float32frombits(a)+math.Float32frombits(magic)) - magic
	}
	shift := 23 - man
	a += 1<<(shift-1) - 1 + a>>shift&1
	return a>>shift - uint32(emin+126)<<man
}

// E4M3FromF32 rounds to E4M3, nearest with ties to even. Values past the range, infinities too, become ±448; a NaN stays one.
func E4M3FromF32(f float32) uint8 {
	b := math.Float32bits(f)
	sign, a := uint8(b>>24)&0x80, b&0x7fffffff
	if a > expMask {
		return sign | 0x7f
	}
	return sign | uint8(roundSmall(min(a, math.Float32bits(E4M3Max)), 3, -6))
}

// E4M3ToF32 converts E4M3 exactly.
func E4M3ToF32(b uint8) float32 { return e4m3Table[b] }

// E5M2FromF32 rounds to E5M2, nearest with ties to even. Finite values past the range become infinities, as with [F16FromF32];
// NaNs become quiet NaNs.
func E5M2FromF32(f float32) uint8 {
	b := math.Float32bits(f)
	sign, a := uint8(b>>24)&0x80, b&0x7fffffff
	if a > expMask {
		return sign | 0x7e
	}
	return sign | uint8(min(roundSmall(a, 2, -14), 0x7c))
}

// E5M2ToF32 converts E5M2 exactly.
func E5M2ToF32(b uint8) float32 { return e5m2Table[b] }

// E8M0FromF32 returns the code of the nearest power of two; halfway between two it is the larger. Zero becomes the smallest,
// 2^-127; what is past the largest, 2^127, becomes that. Negative values, infinities and NaNs become the NaN of the type, 255.
func E8M0FromF32(f float32) uint8 {
	b := math.Float32bits(f)
	switch {
	case b == 1<<31: // -0
		return 0
	case b >= expMask:
		return 255
	case b < 1<<23: // subnormal: 2^-127 has the bits 1<<22
		if b >= 3<<21 {
			return 1
		}
		return 0
	}
	return uint8(min((b+1<<22)>>23, 254))
}

// E8M0ToF32 returns 2^(b-127), NaN for 255.
func E8M0ToF32(b uint8) float32 {
	switch b {
	case 0:
		return math.Float32frombits(1 << 22)
	case 255:
		return float32(math.NaN())
	}
	return math.Float32frombits(uint32(b) << 23)
}

func decode8(dst []float32, src []byte, t *[256]float32) {
	for i, b := range src {
		dst[i] = t[b]
	}
}

func encode8(dst []byte, src []float32, round func(float32) uint8) {
	for i, f := range src {
		dst[i] = round(f)
	}
}
