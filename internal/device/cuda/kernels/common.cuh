// What kernels are written in: CUDA C++ and the few names below. With HOST_KERNELS the same sources are plain C++, and the names
// come from the emulation that tests run them on.
#pragma once
#include <stdint.h>

#ifdef HOST_KERNELS
#include "host.h"
#else

// KERNEL(name)(parameters) { … } EXPORT(name) defines a kernel. BOUNDED says how many threads a block has and how many blocks are
// to fit on a multiprocessor.
#define KERNEL(name) extern "C" __global__ void name
#define BOUNDED(name, threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks) name
#define EXPORT(name)
#define DEVICE __device__ __forceinline__
#define SHARED __shared__
#define UNROLL _Pragma("unroll")

// dynamic_shared is the shared memory that the launch asks for.
DEVICE char *dynamic_shared() {
	extern __shared__ __align__(128) char shared_memory[];
	return shared_memory;
}

// exp2_fast is 2^x to about two units of the last place, 0 for very negative x.
DEVICE float exp2_fast(float x) {
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// f16_to and f16_from convert IEEE half precision, to nearest even.
DEVICE float f16_to(uint16_t h) {
	float x;
	asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
	return x;
}
DEVICE uint16_t f16_from(float x) {
	uint16_t h;
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
	return h;
}

// bf16_from rounds to nearest even.
DEVICE uint16_t bf16_from(float x) {
	uint16_t h;
	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(x));
	return h;
}

// bf16_pair rounds two values to one word, lo in its low half.
DEVICE uint32_t bf16_pair(float lo, float hi) {
	uint32_t w;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(hi), "f"(lo));
	return w;
}

// mma_bf16: d += a·b, a 16x16 of rows, b 16x8 of columns in bfloat16, sums in f32, with the fragments of mma.m16n8k16 (PTX ISA,
// "Matrix Fragments for mma.m16n8k16 with floating point type"): with g = lane/4 and t = lane%4, a[0] holds row g, columns 2t and
// 2t+1, a[1] row g+8, a[2] and a[3] the same of columns 2t+8 and 2t+9; b[0] holds column g, rows 2t and 2t+1, b[1] rows 2t+8 and
// 2t+9; d[0] and d[1] are row g, columns 2t and 2t+1, d[2] and d[3] row g+8.
DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	             : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

// ldmatrix4 loads four 8x8 matrices of 16-bit values: lane l gives the address of row l%8 of matrix l/8, 16-byte aligned, and gets
// of each matrix row l/4, columns 2(l%4) and 2(l%4)+1; ldmatrix4_trans gets column l/4, rows 2(l%4) and 2(l%4)+1.
DEVICE void ldmatrix4(uint32_t (&r)[4], const void *row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
	             : "r"(shared_address(row))
	             : "memory");
}
DEVICE void ldmatrix4_trans(uint32_t (&r)[4], const void *row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
	             : "r"(shared_address(row))
	             : "memory");
}

// copy16_async copies 16 bytes from global to shared memory, both aligned; with bytes 0 it writes zeros and reads nothing, else bytes is 16.
// copy_commit ends a group of copies, copy_wait<n> waits until at most n groups of this thread are still under way.
DEVICE void copy16_async(void *shared, const void *global, int bytes) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n>
DEVICE void copy_wait() {
	asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

DEVICE float bits_float(uint32_t x) { return __uint_as_float(x); }
DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }

#endif

// bf16_to converts a bfloat16 value.
DEVICE float bf16_to(uint16_t h) { return bits_float((uint32_t)h << 16); }

// warp_sum adds the values of a warp, in the same order in every lane.
DEVICE float warp_sum(float x) {
	for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
	return x;
}
DEVICE double warp_sum(double x) {
	for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
	return x;
}
DEVICE float warp_max(float x) {
	for (int d = 16; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
	return x;
}

// lane and warp number the threads of a block of one dimension.
DEVICE int lane() { return threadIdx.x % 32; }
DEVICE int warp() { return threadIdx.x / 32; }
