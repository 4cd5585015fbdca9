package num

import "math"

// BF16ToF32 widens bfloat16: dst[i] = src[i] for i < len(src).
func BF16ToF32(dst []float32, src []uint16) {
	checkLen("BF16ToF32", "dst", len(dst), len(src))
	dst = dst[:len(src)]
	for i, h := range src {
		dst[i] = bf16ToF32(h)
	}
}

// F16ToF32 widens IEEE half precision: dst[i] = src[i] for i < len(src).
func F16ToF32(dst []float32, src []uint16) {
	checkLen("F16ToF32", "dst", len(dst), len(src))
	dst = dst[:len(src)]
	for i, h := range src {
		dst[i] = f16ToF32(h)
	}
}

// F32ToBF16 rounds to the nearest bfloat16, ties to even; NaN stays a (quiet) NaN.
func F32ToBF16(dst []uint16, src []float32) {
	checkLen("F32ToBF16", "dst", len(dst), len(src))
	dst = dst[:len(src)]
	for i, f := range src {
		dst[i] = f32ToBF16(f)
	}
}

// F32ToF16 rounds to the nearest IEEE half, ties to even; what is too large becomes an infinity, NaN stays a (quiet) NaN.
func F32ToF16(dst []uint16, src []float32) {
	checkLen("F32ToF16", "dst", len(dst), len(src))
	dst = dst[:len(src)]
	for i, f := range src {
		dst[i] = f32ToF16(f)
	}
}

func bf16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

func f32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	// Adding just under half of the last kept bit, plus that bit itself, carries exactly when the value is to round up.
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// f16ToF32 moves the 15 magnitude bits into place and rescales by 2^112, which also normalises subnormals exactly.
func f16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	mag := uint32(h & 0x7fff)
	switch {
	case mag > 0x7c00: // NaN: quiet it, keep the payload
		return math.Float32frombits(sign | 0x7fc00000 | mag<<13)
	case mag == 0x7c00:
		return math.Float32frombits(sign | 0x7f800000)
	}
	f := math.Float32frombits(mag<<13) * 0x1p112
	return math.Float32frombits(sign | math.Float32bits(f))
}

func f32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520 and above round to infinity
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: a subnormal half; adding 0.5 rounds at 2^-24
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-math.Float32bits(0.5))
	}
	b += 0xfff + (b >> 13 & 1)
	return sign | uint16((b-0x38000000)>>13)
}
