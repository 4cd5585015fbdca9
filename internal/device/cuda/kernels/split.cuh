// Values as sums of bfloat16 values.
#pragma once
#include "common.cuh"

// term takes the nearest bfloat16 from x and returns it: three of them are x to 24 bits. What is not finite is wholly in the first, and what
// would round to infinity takes the largest value.
DEVICE uint16_t term(float &x) {
	uint16_t h = bf16_from(x);
	if ((h & 0x7f80) == 0x7f80) {
		if ((float_bits(x) & 0x7f800000) == 0x7f800000) {
			x = 0;
			return h;
		}
		h--;
	}
	x -= bf16_to(h);
	return h;
}

// Kinds of values, as the device numbers them.
const int KIND_F32 = 0, KIND_BF16 = 1, KIND_F16 = 2;

// value_at reads value i of a vector of a kind.
DEVICE float value_at(const void *x, int kind, long long i) {
	if (kind == KIND_F32) return ((const float *)x)[i];
	uint16_t h = ((const uint16_t *)x)[i];
	return kind == KIND_BF16 ? bf16_to(h) : f16_to(h);
}
