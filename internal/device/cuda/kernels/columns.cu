// Sums and dot products of columns, and the slopes of mixed heads. 4 bytes are moved for each value of each matrix.
#include "columns.cuh"

// column_sums: the sums of a in chunks of rows.
KERNEL(column_sums)(double *part, const float *a, long long rows, int n, int size) {
	SHARED double shared[COLUMN_WARPS][128];
	bool wide = wide4(n, a);
	chunk_sums(part, shared, rows, n, size, [=](long long i, int c) {
		float4 v = load4(a + i * n, c, n, wide);
		return Four{v.x, v.y, v.z, v.w};
	});
}
EXPORT(column_sums)

// column_dots: those of a*b.
KERNEL(column_dots)(double *part, const float *a, const float *b, long long rows, int n, int size) {
	SHARED double shared[COLUMN_WARPS][128];
	bool wide = wide4(n, a) && aligned(b);
	chunk_sums(part, shared, rows, n, size, [=](long long i, int c) {
		float4 v = load4(a + i * n, c, n, wide), w = load4(b + i * n, c, n, wide);
		return Four{(double)v.x * w.x, (double)v.y * w.y, (double)v.z * w.z, (double)v.w * w.w};
	});
}
EXPORT(column_dots)

// column_slopes: those of g*(a-b), the derivatives by the weight of a where a and b are mixed.
KERNEL(column_slopes)(double *part, const float *g, const float *a, const float *b, long long rows, int n, int size) {
	SHARED double shared[COLUMN_WARPS][128];
	bool wide = wide4(n, g) && aligned(a) && aligned(b);
	chunk_sums(part, shared, rows, n, size, [=](long long i, int c) {
		float4 u = load4(g + i * n, c, n, wide), v = load4(a + i * n, c, n, wide), w = load4(b + i * n, c, n, wide);
		return Four{u.x * ((double)v.x - w.x), u.y * ((double)v.y - w.y), u.z * ((double)v.z - w.z), u.w * ((double)v.w - w.w)};
	});
}
EXPORT(column_slopes)

// column_totals: dst[j] is the sum of the chunks of column j.
KERNEL(column_totals)(double *dst, const double *part, int chunks, int n) {
	SHARED double shared[COLUMN_WARPS][32];
	double s = chunks_total(part, shared, chunks, n);
	int column = 32 * blockIdx.x + lane();
	if (warp() == 0 && column < n) dst[column] = s;
}
EXPORT(column_totals)
