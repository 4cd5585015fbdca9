// Teams of threads that take rows: a warp for narrow rows, the block for others.
#pragma once
#include "vector.cuh"

// Team is what a thread is in its team: of SIZE threads, 32 or those of the block. part is shared memory for a value of each warp.
template <int SIZE>
struct Team {
	double *part;

	DEVICE int member() const { return SIZE == 32 ? lane() : threadIdx.x; }
	// first is the first row of the team, step the distance to the next.
	DEVICE long long first() const { return SIZE == 32 ? (long long)blockIdx.x * (ROW_THREADS / 32) + warp() : blockIdx.x; }
	DEVICE long long step() const { return SIZE == 32 ? (long long)gridDim.x * (ROW_THREADS / 32) : gridDim.x; }

	// sum adds the values of all members, in the same order for each of them: within warps, then warp by warp.
	DEVICE double sum(double x) const {
		x = warp_sum(x);
		if (SIZE == 32) return x;
		if (lane() == 0) part[warp()] = x;
		__syncthreads();
		double s = part[0];
		for (int w = 1; w < SIZE / 32; w++) s += part[w];
		__syncthreads();
		return s;
	}
};

// dot4 and total4 add up a group in float64, in order.
DEVICE double dot4(float4 a, float4 b) {
	return (double)a.x * b.x + (double)a.y * b.y + (double)a.z * b.z + (double)a.w * b.w;
}
DEVICE double total4(float4 a) { return (double)a.x + a.y + a.z + a.w; }
