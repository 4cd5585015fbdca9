// Sums of the columns of a matrix [rows, n] in float64, in two steps with a fixed order: those of chunks of rows, then those of the
// chunks. What a value adds to its column is a function of its place.
#pragma once
#include "vector.cuh"

const int COLUMN_WARPS = ROW_THREADS / 32;

// Four are the values of a group in float64.
struct Four {
	double x, y, z, w;
};

// chunk_sums writes to part[chunk, :] the sums over rows [chunk*size, (chunk+1)*size) of term(i, c), the four values of row i from
// column c on. A block takes a chunk of 128 columns; each warp takes every eighth row, ascending, and the warps join in order.
// Chunks are along x of the grid, which is the longer side, columns along y.
template <typename F>
DEVICE void chunk_sums(double *part, double (&shared)[COLUMN_WARPS][128], long long rows, int n, int size, F term) {
	long long chunk = blockIdx.x;
	int c = 128 * blockIdx.y + 4 * lane();
	Four sum = {0, 0, 0, 0};
	if (c < n) {
		long long end = (chunk + 1) * size < rows ? (chunk + 1) * size : rows;
		for (long long i = chunk * size + warp(); i < end; i += COLUMN_WARPS) {
			Four t = term(i, c);
			sum.x += t.x;
			sum.y += t.y;
			sum.z += t.z;
			sum.w += t.w;
		}
	}
	double *mine = shared[warp()] + 4 * lane();
	mine[0] = sum.x;
	mine[1] = sum.y;
	mine[2] = sum.z;
	mine[3] = sum.w;
	__syncthreads();
	int column = 128 * blockIdx.y + threadIdx.x;
	if (threadIdx.x < 128 && column < n) {
		double s = shared[0][threadIdx.x];
		for (int w = 1; w < COLUMN_WARPS; w++) s += shared[w][threadIdx.x];
		part[chunk * n + column] = s;
	}
	__syncthreads();
}

// chunks_total returns in the first 32 threads of a block the sum over chunks of column 32*blockIdx.x + lane: each warp takes a
// run of the chunks, ascending, and the warps join in order.
DEVICE double chunks_total(const double *part, double (&shared)[COLUMN_WARPS][32], int chunks, int n) {
	int column = 32 * blockIdx.x + lane(), run = (chunks + COLUMN_WARPS - 1) / COLUMN_WARPS, lo = warp() * run;
	double s = 0;
	if (column < n)
		for (int k = lo; k < lo + run && k < chunks; k++) s += part[(long long)k * n + column];
	shared[warp()][lane()] = s;
	__syncthreads();
	s = shared[0][lane()];
	for (int w = 1; w < COLUMN_WARPS; w++) s += shared[w][lane()];
	return s;
}
