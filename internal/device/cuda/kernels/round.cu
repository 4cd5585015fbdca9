// Codes of grids that are known, and back.
#include "grid.cuh"

// round_codes sets the codes of w [out, n] in groups of width columns; zeros may be null.
KERNEL(round_codes)(signed char *codes, const float *w, const float *scales, const signed char *zeros, int out, int n, int width, int low, int high) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= n) return;
	Finder f = {0, 0, low, high, 0, 0, 0};
	for (long long r = blockIdx.y; r < out; r += gridDim.y) {
		long long group = r * (n / width) + j / width;
		Grid g = grid_of(f, scales[group], zeros ? zeros[group] : 0);
		codes[r * n + j] = (int)steps(g, w[r * n + j]) + g.zero;
	}
}
EXPORT(round_codes)

// round_values sets dst [out, n] of a kind to (code-zero)*scale, rounded to a kind which dst holds.
KERNEL(round_values)
(void *dst, int kind, const signed char *codes, const float *scales, const signed char *zeros, int out, int n, int width, int store) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= n) return;
	for (long long r = blockIdx.y; r < out; r += gridDim.y) {
		long long group = r * (n / width) + j / width;
		float v = rounded((float)(codes[r * n + j] - (zeros ? zeros[group] : 0)) * scales[group], store);
		if (kind == KIND_BF16)
			((uint16_t *)dst)[r * n + j] = bf16_from(v);
		else if (kind == KIND_F16)
			((uint16_t *)dst)[r * n + j] = f16_from(v);
		else
			((float *)dst)[r * n + j] = v;
	}
}
EXPORT(round_values)
