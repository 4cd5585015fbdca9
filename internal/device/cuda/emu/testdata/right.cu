// Kernels without errors.
#include "common.cuh"

// scale: y = a*x.
KERNEL(scale)(float *y, const float *x, float a, long long n) {
	long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n) y[i] = a * x[i];
}
EXPORT(scale)

// sum: y[b] is the sum of the 256 values of block b.
BOUNDED(sum, 256, 1)(float *y, const float *x) {
	SHARED float part[8];
	float s = warp_sum(x[blockIdx.x * 256 + threadIdx.x]);
	if (lane() == 0) part[warp()] = s;
	__syncthreads();
	if (threadIdx.x == 0) {
		s = 0;
		for (int i = 0; i < 8; i++) s += part[i];
		y[blockIdx.x] = s;
	}
}
EXPORT(sum)

// indices: what a thread is told of itself, 12 values.
KERNEL(indices)(int *y) {
	long long block = blockIdx.x + gridDim.x * (blockIdx.y + (long long)gridDim.y * blockIdx.z);
	long long thread = threadIdx.x + blockDim.x * (threadIdx.y + (long long)blockDim.y * threadIdx.z);
	int *to = y + 12 * (block * (blockDim.x * blockDim.y * blockDim.z) + thread);
	const unsigned values[12] = {threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z,
	                             blockDim.x,  blockDim.y,  blockDim.z,  gridDim.x,  gridDim.y,  gridDim.z};
	for (int i = 0; i < 12; i++) to[i] = (int)values[i];
}
EXPORT(indices)

// parameters: a kernel of every type of parameter writes them as doubles.
KERNEL(parameters)(double *y, int i, long long l, float f, double d) {
	if (threadIdx.x == 0) {
		y[0] = i;
		y[1] = (double)l;
		y[2] = f;
		y[3] = d;
	}
}
EXPORT(parameters)

// through: y = x through shared memory that is asked for at launch, in reverse within the block.
KERNEL(through)(float *y, const float *x) {
	float *shared = (float *)dynamic_shared();
	shared[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
	__syncthreads();
	y[blockIdx.x * blockDim.x + threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}
EXPORT(through)

// stale: y is what shared memory holds before anything is written to it.
KERNEL(stale)(float *y) {
	SHARED float still[4];
	float *shared = (float *)dynamic_shared();
	y[2 * threadIdx.x] = shared[threadIdx.x];
	y[2 * threadIdx.x + 1] = still[threadIdx.x % 4];
	__syncthreads();
	shared[threadIdx.x] = still[threadIdx.x % 4] = 1;
}
EXPORT(stale)

// votes: of 64 threads in two warps, by a predicate of their own.
KERNEL(votes)(int *y, const int *x) {
	int p = x[threadIdx.x], *to = y + 6 * threadIdx.x;
	to[0] = (int)__ballot_sync(0xffffffffu, p);
	to[1] = __any_sync(0xffffffffu, p);
	to[2] = __all_sync(0xffffffffu, p);
	to[3] = __syncthreads_count(p);
	to[4] = __syncthreads_or(p);
	to[5] = __syncthreads_and(p);
}
EXPORT(votes)

// halves: the two halves of a warp shuffle on their own.
KERNEL(halves)(int *y) {
	int l = lane();
	if (l < 16) {
		y[l] = __shfl_xor_sync(0x0000ffffu, l, 1);
	} else {
		y[l] = __shfl_down_sync(0xffff0000u, l, 1, 16);
	}
}
EXPORT(halves)

template <class T>
DEVICE void shuffle_all(T *y, T x, int width) {
	T *to = y + 4 * threadIdx.x;
	to[0] = __shfl_sync(0xffffffffu, x, 5, width);
	to[1] = __shfl_xor_sync(0xffffffffu, x, 3, width);
	to[2] = __shfl_up_sync(0xffffffffu, x, 2, width);
	to[3] = __shfl_down_sync(0xffffffffu, x, 7, width);
}
KERNEL(shuffles_f32)(float *y, const float *x, int width) { shuffle_all(y, x[threadIdx.x], width); }
EXPORT(shuffles_f32)
KERNEL(shuffles_f64)(double *y, const double *x, int width) { shuffle_all(y, x[threadIdx.x], width); }
EXPORT(shuffles_f64)
KERNEL(shuffles_i64)(long long *y, const long long *x, int width) { shuffle_all(y, x[threadIdx.x], width); }
EXPORT(shuffles_i64)
