// Kernels without errors.
#include "common.cuh"

// scale: y = a*x.
KERNEL(scale)(float *y, const float *x, float a, int n) {
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
