// Elements from one kind to another, to nearest even; and y = beta*y.
#include "common.cuh"

// packed is eight 16-bit elements.
struct alignas(16) packed {
	uint32_t word[4];
};

struct f32_bf16 {
	typedef float from;
	typedef uint16_t to;
	static DEVICE to convert(from x) { return bf16_from(x); }
};
struct f32_f16 {
	typedef float from;
	typedef uint16_t to;
	static DEVICE to convert(from x) { return f16_from(x); }
};
struct bf16_f32 {
	typedef uint16_t from;
	typedef float to;
	static DEVICE to convert(from x) { return bf16_to(x); }
};
struct f16_f32 {
	typedef uint16_t from;
	typedef float to;
	static DEVICE to convert(from x) { return f16_to(x); }
};
struct f16_bf16 {
	typedef uint16_t from;
	typedef uint16_t to;
	static DEVICE to convert(from x) { return bf16_from(f16_to(x)); }
};

// load8 and store8 move eight aligned elements.
DEVICE void load8(float (&v)[8], const float *p) {
	const float4 a = ((const float4 *)p)[0], b = ((const float4 *)p)[1];
	v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
	v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
DEVICE void load8(uint16_t (&v)[8], const uint16_t *p) {
	const packed a = *(const packed *)p;
	UNROLL for (int i = 0; i < 4; i++) v[2 * i] = (uint16_t)a.word[i], v[2 * i + 1] = (uint16_t)(a.word[i] >> 16);
}
DEVICE void store8(float *p, const float (&v)[8]) {
	float4 a, b;
	a.x = v[0], a.y = v[1], a.z = v[2], a.w = v[3];
	b.x = v[4], b.y = v[5], b.z = v[6], b.w = v[7];
	((float4 *)p)[0] = a, ((float4 *)p)[1] = b;
}
DEVICE void store8(uint16_t *p, const uint16_t (&v)[8]) {
	packed a;
	UNROLL for (int i = 0; i < 4; i++) a.word[i] = v[2 * i] | (uint32_t)v[2 * i + 1] << 16;
	*(packed *)p = a;
}

// convert: a thread has eight elements.
template <typename C>
DEVICE void convert(typename C::to *dst, const typename C::from *src, long long n) {
	const long long first = 8 * ((long long)blockIdx.x * blockDim.x + threadIdx.x);
	const bool aligned = ((uintptr_t)dst | (uintptr_t)src) % 16 == 0;
	if (aligned && first + 8 <= n) {
		typename C::from x[8];
		typename C::to y[8];
		load8(x, src + first);
		UNROLL for (int i = 0; i < 8; i++) y[i] = C::convert(x[i]);
		store8(dst + first, y);
		return;
	}
	for (long long i = first; i < n && i < first + 8; i++) dst[i] = C::convert(src[i]);
}

KERNEL(convert_f32_bf16)(uint16_t *dst, const float *src, long long n) { convert<f32_bf16>(dst, src, n); }
EXPORT(convert_f32_bf16)
KERNEL(convert_f32_f16)(uint16_t *dst, const float *src, long long n) { convert<f32_f16>(dst, src, n); }
EXPORT(convert_f32_f16)
KERNEL(convert_bf16_f32)(float *dst, const uint16_t *src, long long n) { convert<bf16_f32>(dst, src, n); }
EXPORT(convert_bf16_f32)
KERNEL(convert_f16_f32)(float *dst, const uint16_t *src, long long n) { convert<f16_f32>(dst, src, n); }
EXPORT(convert_f16_f32)
KERNEL(convert_f16_bf16)(uint16_t *dst, const uint16_t *src, long long n) { convert<f16_bf16>(dst, src, n); }
EXPORT(convert_f16_bf16)

// scale: y[i,j] = beta*y[i,j], rows of n elements, ld from one to the next. With beta 0 the old y is not read.
KERNEL(scale)(float *y, long long rows, long long n, long long ld, float beta) {
	const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (i >= rows * n) return;
	float *to = y + i / n * ld + i % n;
	*to = beta == 0 ? 0 : *to * beta;
}
EXPORT(scale)
