// Kernels with races, and the same without.
#include "common.cuh"

// exchange: threads read what others of the block write, with a barrier between where wait is set.
KERNEL(exchange)(float *y, const float *x, int wait) {
	SHARED float s[64];
	s[threadIdx.x] = x[threadIdx.x];
	if (wait) __syncthreads();
	y[threadIdx.x] = s[63 - threadIdx.x];
}
EXPORT(exchange)

// reuse: the same, twice through the same memory; wait is for the barrier after what is read.
KERNEL(reuse)(float *y, const float *x, int wait) {
	float *s = (float *)dynamic_shared();
	for (int i = 0; i < 2; i++) {
		s[threadIdx.x] = x[threadIdx.x];
		__syncthreads();
		y[threadIdx.x] = s[63 - threadIdx.x];
		if (wait) __syncthreads();
	}
}
EXPORT(reuse)

// lanes_exchange: lanes of a warp, with __syncwarp or without; a barrier is not needed.
KERNEL(lanes_exchange)(float *y, const float *x, int wait) {
	SHARED float s[64];
	for (int i = 0; i < 3; i++) {
		s[threadIdx.x] = x[threadIdx.x];
		if (wait) __syncwarp();
		y[threadIdx.x] = s[threadIdx.x ^ 1];
		if (wait) __syncwarp();
	}
}
EXPORT(lanes_exchange)

// across: blocks write their own part, or with wait 0 all the same one.
KERNEL(across)(float *y, int wait) { y[(wait ? blockIdx.x * 32 : 0) + threadIdx.x] = 1; }
EXPORT(across)

// neighbours: blocks read what the one before writes, or with wait what it does not.
KERNEL(neighbours)(float *y, int wait) {
	int i = blockIdx.x * 32 + threadIdx.x;
	float v = y[wait ? i : i + 32];
	y[i] = v;
}
EXPORT(neighbours)

// halves_of_words: threads write two bytes of a word each, which is no race.
KERNEL(halves_of_words)(uint16_t *y, int) { y[threadIdx.x] = 1; }
EXPORT(halves_of_words)

// counted: an atomic operation on one word is no race.
KERNEL(counted)(int *y, int) {
	if (threadIdx.x < 64) atomicAdd(y, 1);
}
EXPORT(counted)

// tile: ldmatrix reads what copies of the whole warp wrote: with a barrier between, or without.
KERNEL(tile)(uint32_t *y, const uint16_t *x, int wait) {
	SHARED __align__(16) uint16_t s[32][8];
	copy16_async(s[lane()], x + 8 * lane(), 16);
	copy_commit();
	copy_wait<0>();
	if (wait) __syncthreads();
	uint32_t r[4];
	ldmatrix4(r, s[31 - lane()]);
	y[threadIdx.x] = r[0];
}
EXPORT(tile)
