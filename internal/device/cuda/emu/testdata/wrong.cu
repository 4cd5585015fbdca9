// Kernels with one error each.
#include "common.cuh"

// no_barrier reads what other warps wrote and does not wait for them.
KERNEL(no_barrier)(float *y, const float *x) {
	SHARED float s[64];
	s[threadIdx.x] = x[threadIdx.x];
	y[threadIdx.x] = s[63 - threadIdx.x];
}
EXPORT(no_barrier)

// no_wait reads a copy that it does not wait for.
KERNEL(no_wait)(float *y, const float *x) {
	SHARED __align__(16) float s[32][4];
	copy16_async(s[threadIdx.x], x + 4 * threadIdx.x, 16);
	copy_commit();
	__syncthreads();
	y[threadIdx.x] = s[threadIdx.x][0];
}
EXPORT(no_wait)

// short_wait waits for all groups but the one that it reads.
KERNEL(short_wait)(float *y, const float *x) {
	SHARED __align__(16) float s[32][4];
	copy16_async(s[threadIdx.x], x + 4 * threadIdx.x, 16);
	copy_commit();
	copy_wait<1>();
	__syncthreads();
	y[threadIdx.x] = s[threadIdx.x][0];
}
EXPORT(short_wait)

// half_warp has half of the lanes shuffle.
KERNEL(half_warp)(float *y) {
	if (lane() < 16) y[lane()] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
EXPORT(half_warp)

// two_places has the lanes of a warp shuffle at two places.
KERNEL(two_places)(float *y) {
	if (lane() < 16) {
		y[lane()] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
	} else {
		y[lane()] = __shfl_xor_sync(0xffffffffu, 2.0f, 1);
	}
}
EXPORT(two_places)

// half_barrier lets half of the block end before a barrier.
KERNEL(half_barrier)(float *y) {
	if (threadIdx.x >= 32) return;
	__syncthreads();
	y[threadIdx.x] = 1;
}
EXPORT(half_barrier)

// two_barriers has the warps of a block wait at two places.
KERNEL(two_barriers)(float *y) {
	if (threadIdx.x >= 32) {
		__syncthreads();
	} else {
		__syncthreads();
		y[threadIdx.x] = 1;
	}
}
EXPORT(two_barriers)

// outside writes before or behind an allocation, by at values.
KERNEL(outside)(float *y, long long at) { y[at + threadIdx.x] = 1; }
EXPORT(outside)

// outside_shared writes behind its shared memory.
KERNEL(outside_shared)(int bytes) {
	dynamic_shared()[bytes + threadIdx.x] = 1;
}
EXPORT(outside_shared)

// unaligned reads four values at once at an address that is not theirs.
KERNEL(unaligned)(float *y, int at) {
	float4 v = *(const float4 *)(y + at);
	y[0] = v.x + v.y;
}
EXPORT(unaligned)

// unaligned_copy is the same for asynchronous copies.
KERNEL(unaligned_copy)(const float *x, int at) {
	SHARED __align__(16) float s[8];
	copy16_async(s, x + at, 16);
	copy_wait<0>();
}
EXPORT(unaligned_copy)

// unaligned_rows is the same for ldmatrix.
KERNEL(unaligned_rows)(uint32_t *y, int at) {
	SHARED __align__(16) uint16_t s[512];
	uint32_t r[4];
	ldmatrix4(r, s + at + 8 * lane());
	y[lane()] = r[0];
}
EXPORT(unaligned_rows)

// global_rows has ldmatrix read global memory.
KERNEL(global_rows)(uint32_t *y, const uint16_t *x) {
	uint32_t r[4];
	ldmatrix4(r, x + 8 * lane());
	y[lane()] = r[0];
}
EXPORT(global_rows)

// beyond reads an array past its end.
KERNEL(beyond)(float *y, int at) {
	SHARED float s[4];
	s[threadIdx.x % 4] = 1;
	__syncthreads();
	y[threadIdx.x] = s[at];
}
EXPORT(beyond)

// overflow computes an index in int that is too large for it.
KERNEL(overflow)(float *y, int rows, int columns) { y[threadIdx.x] = (float)(rows * columns); }
EXPORT(overflow)
