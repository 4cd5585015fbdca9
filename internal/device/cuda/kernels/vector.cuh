// Rows of f32 in groups of four, and the numbering of threads over them.
#pragma once
#include "common.cuh"

// ROW_THREADS is how many threads the blocks of kernels over rows and vectors have.
const int ROW_THREADS = 256;

// thread numbers the threads of a grid of one dimension, threads is how many there are.
DEVICE long long thread() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE long long threads() { return (long long)gridDim.x * blockDim.x; }

// aligned reports whether four values can be read at once from p; wide4 whether they can from every row of n values.
DEVICE bool aligned(const void *p) { return (uintptr_t)p % 16 == 0; }
DEVICE bool wide4(long long n, const void *p) { return n % 4 == 0 && aligned(p); }

// load4 reads values c to c+3 of n, zeros beyond the end; c is a multiple of 4. wide says that p is aligned. What is read does not
// depend on it, so that sums over groups have the same order wherever a vector lies.
DEVICE float4 load4(const float *p, long long c, long long n, bool wide) {
	if (wide && c + 4 <= n) return *(const float4 *)(p + c);
	float4 v = {0, 0, 0, 0};
	if (c < n) v.x = p[c];
	if (c + 1 < n) v.y = p[c + 1];
	if (c + 2 < n) v.z = p[c + 2];
	if (c + 3 < n) v.w = p[c + 3];
	return v;
}

// store4 writes values c to c+3 of n, those that there are.
DEVICE void store4(float *p, long long c, long long n, bool wide, float4 v) {
	if (wide && c + 4 <= n) {
		*(float4 *)(p + c) = v;
		return;
	}
	if (c < n) p[c] = v.x;
	if (c + 1 < n) p[c + 1] = v.y;
	if (c + 2 < n) p[c + 2] = v.z;
	if (c + 3 < n) p[c + 3] = v.w;
}

// each4 applies f to the values of one, two or three groups.
template <typename F>
DEVICE float4 each4(float4 a, F f) {
	float4 y = {f(a.x), f(a.y), f(a.z), f(a.w)};
	return y;
}
template <typename F>
DEVICE float4 each4(float4 a, float4 b, F f) {
	float4 y = {f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w)};
	return y;
}
template <typename F>
DEVICE float4 each4(float4 a, float4 b, float4 c, F f) {
	float4 y = {f(a.x, b.x, c.x), f(a.y, b.y, c.y), f(a.z, b.z, c.z), f(a.w, b.w, c.w)};
	return y;
}

// map4 sets y[i] = f(a[i]) or f(a[i], b[i]) over n values; y may be a or b.
template <typename F>
DEVICE void map4(float *y, const float *a, long long n, F f) {
	bool wide = aligned(y) && aligned(a);
	for (long long c = 4 * thread(); c < n; c += 4 * threads()) store4(y, c, n, wide, each4(load4(a, c, n, wide), f));
}
template <typename F>
DEVICE void map4(float *y, const float *a, const float *b, long long n, F f) {
	bool wide = aligned(y) && aligned(a) && aligned(b);
	for (long long c = 4 * thread(); c < n; c += 4 * threads())
		store4(y, c, n, wide, each4(load4(a, c, n, wide), load4(b, c, n, wide), f));
}

// tile_rows calls body(i, c) for the groups of four columns c of rows i of a matrix [rows, n]: a block takes 128 columns, each of its
// warps every eighth row, and the blocks along y share the rows. A thread keeps its columns.
template <typename F>
DEVICE void tile_rows(long long rows, int n, F body) {
	int c = 128 * blockIdx.x + 4 * lane();
	if (c >= n) return;
	for (long long i = (ROW_THREADS / 32) * (long long)blockIdx.y + warp(); i < rows; i += (ROW_THREADS / 32) * (long long)gridDim.y)
		body(i, c);
}
