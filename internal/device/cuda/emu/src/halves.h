// Sixteen-bit floating point in software: to nearest even, every NaN the canonical one of the hardware (PTX ISA, "Half Precision
// Floating Point Instructions": 0x7fff; cvt to f32 gives 0x7fffffff).
#pragma once
#include <stdint.h>
#include <string.h>

inline float bits_float(uint32_t x) {
	float f;
	memcpy(&f, &x, 4);
	return f;
}
inline uint32_t float_bits(float f) {
	uint32_t x;
	memcpy(&x, &f, 4);
	return x;
}

inline uint16_t bf16_from(float x) {
	uint32_t b = float_bits(x);
	if ((b & 0x7fffffff) > 0x7f800000) return 0x7fff;
	return (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

// bf16_pair puts lo in the low half.
inline uint32_t bf16_pair(float lo, float hi) { return (uint32_t)bf16_from(hi) << 16 | bf16_from(lo); }

inline uint16_t f16_from(float x) {
	uint32_t b = float_bits(x), sign = b >> 16 & 0x8000, a = b & 0x7fffffff;
	if (a > 0x7f800000) return 0x7fff;
	if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); // from 65520 on
	if (a >= 0x38800000) {                                 // normal
		a -= 112u << 23;
		return (uint16_t)(sign | (a + 0xfff + (a >> 13 & 1)) >> 13);
	}
	// Below 2^-14: adding 2^-1, whose last place is that of the subnormals, 2^-24, rounds.
	float rounded = bits_float(a) + 0.5f;
	return (uint16_t)(sign | (float_bits(rounded) - 0x3f000000));
}

inline float f16_to(uint16_t h) {
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, a = h & 0x7fff;
	if (a > 0x7c00) return bits_float(0x7fffffff);
	if (a == 0x7c00) return bits_float(sign | 0x7f800000);
	if (a >= 0x400) return bits_float(sign | ((a << 13) + (112u << 23)));
	return bits_float(sign | float_bits((float)a * 0x1p-24f));
}
