// Arithmetic that rounds after each operation, and the types that weights are stored in.
#pragma once
#include "common.cuh"

// mul is a product that is rounded before anything is added to it. Codes are to be those of the host, which fuses nothing.
#ifdef HOST_KERNELS
DEVICE float mul(float a, float b) {
	volatile float p = a * b;
	return p;
}
DEVICE double mul(double a, double b) {
	volatile double p = a * b;
	return p;
}
#else
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE double mul(double a, double b) { return __dmul_rn(a, b); }
#endif

// ROLLED keeps a loop a loop.
#ifdef HOST_KERNELS
#define ROLLED
#else
#define ROLLED _Pragma("unroll 1")
#endif

// Kinds of elements, numbered as in package device.
enum { KIND_F32, KIND_BF16, KIND_F16 };

// rounded is x as an element of a kind holds it.
DEVICE float rounded(float x, int kind) {
	if (kind == KIND_BF16) return bf16_to(bf16_from(x));
	if (kind == KIND_F16) return f16_to(f16_from(x));
	return x;
}

// element is value i of an array of a kind.
DEVICE float element(const void *x, int kind, long long i) {
	if (kind == KIND_BF16) return bf16_to(((const uint16_t *)x)[i]);
	if (kind == KIND_F16) return f16_to(((const uint16_t *)x)[i]);
	return ((const float *)x)[i];
}

// is_finite reports whether x is neither NaN nor infinite.
DEVICE bool is_finite(float x) { return x - x == 0; }
DEVICE bool is_finite(double x) { return x - x == 0; }
