// The functions that CUDA C++ has in the global namespace.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <limits>
#include <type_traits>

#include "halves.h"

// min and max of mixed arguments are of their common type, as in CUDA.
template <class A, class B>
inline typename std::common_type<A, B>::type min(A a, B b) {
	using T = typename std::common_type<A, B>::type;
	if constexpr (std::is_floating_point<T>::value) return std::is_same<T, float>::value ? (T)fminf(a, b) : (T)fmin(a, b);
	return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B>
inline typename std::common_type<A, B>::type max(A a, B b) {
	using T = typename std::common_type<A, B>::type;
	if constexpr (std::is_floating_point<T>::value) return std::is_same<T, float>::value ? (T)fmaxf(a, b) : (T)fmax(a, b);
	return (T)a < (T)b ? (T)b : (T)a;
}

// 2^x: the hardware's is within two units of the last place and exact at integers. This one is below the true value by up to one,
// so that nothing can lean on correct rounding. Subnormal arguments and results are zeros.
inline float exp2_fast(float x) {
	if (x != x) return bits_float(0x7fffffff);
	float y = exp2f(x);
	if (y < 0x1p-126f) return 0;
	return y > 3.4e38f ? y : bits_float(float_bits(y) & ~1u);
}

inline float rsqrtf(float x) { return (float)(1 / sqrt((double)x)); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __expf(float x) { return exp2_fast(x * 1.4426950408889634f); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
// __fdividef is within two units of the last place, and 0 by a divisor beyond 2^126 (CUDA C++ Programming Guide, "Intrinsic Functions"); this
// one is off by up to one.
inline float __fdividef(float a, float b) {
	float q = a / b;
	if (fabsf(b) > 0x1p126f && fabsf(b) < INFINITY) return a - a == 0 ? copysignf(0, q) : bits_float(0x7fffffff);
	return q - q == 0 ? bits_float(float_bits(q) & ~1u) : q;
}
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

// Sums and products that are never fused.
template <class T>
inline T emu_opaque(T x) {
	asm volatile("" : "+m"(x));
	return x;
}
inline float __fadd_rn(float a, float b) { return emu_opaque(a) + b; }
inline float __fsub_rn(float a, float b) { return emu_opaque(a) - b; }
inline float __fmul_rn(float a, float b) { return emu_opaque(a * b); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return emu_opaque(a) + b; }
inline double __dsub_rn(double a, double b) { return emu_opaque(a) - b; }
inline double __dmul_rn(double a, double b) { return emu_opaque(a * b); }
inline double __ddiv_rn(double a, double b) { return a / b; }

template <class To, class From>
inline To emu_bits(From x) {
	static_assert(sizeof(To) == sizeof(From), "sizes differ");
	To y;
	memcpy(&y, &x, sizeof y);
	return y;
}
inline float __uint_as_float(unsigned x) { return bits_float(x); }
inline float __int_as_float(int x) { return emu_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return float_bits(x); }
inline int __float_as_int(float x) { return emu_bits<int>(x); }
inline long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emu_bits<double>(x); }

// Conversions to integers clip to their range and take NaN as 0 (PTX ISA, cvt).
template <class I>
inline I emu_integer(double x) {
	using L = std::numeric_limits<I>;
	if (x != x) return 0;
	if (x <= (double)L::min()) return L::min();
	return x >= (double)L::max() ? L::max() : (I)x;
}
inline int __float2int_rn(float x) { return emu_integer<int>(nearbyint(x)); }
inline int __float2int_rz(float x) { return emu_integer<int>(trunc(x)); }
inline int __float2int_rd(float x) { return emu_integer<int>(floor(x)); }
inline int __float2int_ru(float x) { return emu_integer<int>(ceil(x)); }
inline unsigned __float2uint_rn(float x) { return emu_integer<unsigned>(nearbyint(x)); }
inline int __double2int_rn(double x) { return emu_integer<int>(nearbyint(x)); }
inline long long __double2ll_rn(double x) { return emu_integer<long long>(nearbyint(x)); }
inline float __int2float_rn(int x) { return (float)x; }
inline float __double2float_rn(double x) { return (float)x; }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
	unsigned y = 0;
	for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
	return y;
}
inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline float __saturatef(float x) { return x != x ? 0 : fminf(fmaxf(x, 0), 1); }

template <class T>
inline T __ldg(const T *p) { return *p; }

// Atomics on integers. There are none on floats: their order would show in the bits.
template <class T>
inline T atomicAdd(T *p, T x) {
	static_assert(std::is_integral<T>::value, "no atomics on floats");
	return __atomic_fetch_add(p, x, __ATOMIC_RELAXED);
}
template <class T>
inline T atomicOr(T *p, T x) { return __atomic_fetch_or(p, x, __ATOMIC_RELAXED); }
template <class T>
inline T atomicAnd(T *p, T x) { return __atomic_fetch_and(p, x, __ATOMIC_RELAXED); }
template <class T>
inline T atomicExch(T *p, T x) { return __atomic_exchange_n(p, x, __ATOMIC_RELAXED); }
template <class T>
inline T atomicCAS(T *p, T old, T x) {
	__atomic_compare_exchange_n(p, &old, x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return old;
}
template <class T>
inline T atomicMax(T *p, T x) {
	static_assert(std::is_integral<T>::value, "no atomics on floats");
	T old = __atomic_load_n(p, __ATOMIC_RELAXED);
	while (old < x && !__atomic_compare_exchange_n(p, &old, x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
	}
	return old;
}
template <class T>
inline T atomicMin(T *p, T x) {
	static_assert(std::is_integral<T>::value, "no atomics on floats");
	T old = __atomic_load_n(p, __ATOMIC_RELAXED);
	while (x < old && !__atomic_compare_exchange_n(p, &old, x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
	}
	return old;
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
