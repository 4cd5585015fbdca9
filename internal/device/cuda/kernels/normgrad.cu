// The gradients of norms by gain and bias: the moments of each row, then sums of columns in float64, rounded once. 12 bytes are moved for
// each value, 16 for LayerNorm's where rows are too wide to stay in the cache.
#include "columns.cuh"
#include "norm.cuh"

// norm_moments writes mean and 1/sqrt(var+eps) of each row, mean 0 and 1/sqrt(Σx²/over+eps) unless centre is set.
template <int SIZE>
DEVICE void norm_moments_rows(double *part, double *moments, const float *x, long long rows, int d, float over, float eps, int centre) {
	Team<SIZE> team{part};
	bool wide = wide4(d, x);
	for (long long i = team.first(); i < rows; i += team.step()) {
		Moments m = centre ? layer_moments(team, x + i * d, d, wide, over, eps) : rms_moments(team, x + i * d, d, wide, over, eps);
		if (team.member() == 0) {
			moments[2 * i] = m.mean;
			moments[2 * i + 1] = m.r;
		}
	}
}

KERNEL(norm_moments_warp)(double *moments, const float *x, long long rows, int d, float over, float eps, int centre) {
	norm_moments_rows<32>(0, moments, x, rows, d, over, eps, centre);
}
EXPORT(norm_moments_warp)

KERNEL(norm_moments_block)(double *moments, const float *x, long long rows, int d, float over, float eps, int centre) {
	SHARED double part[ROW_THREADS / 32];
	norm_moments_rows<ROW_THREADS>(part, moments, x, rows, d, over, eps, centre);
}
EXPORT(norm_moments_block)

// norm_gains: the sums of dy*(x-mean)*r in chunks of rows.
KERNEL(norm_gains)(double *part, const double *moments, const float *dy, const float *x, long long rows, int n, int size) {
	SHARED double shared[COLUMN_WARPS][128];
	bool wide = wide4(n, dy) && aligned(x);
	chunk_sums(part, shared, rows, n, size, [=](long long i, int c) {
		float4 g = load4(dy + i * n, c, n, wide), v = load4(x + i * n, c, n, wide);
		double mean = moments[2 * i], r = moments[2 * i + 1];
		return Four{g.x * (v.x - mean) * r, g.y * (v.y - mean) * r, g.z * (v.z - mean) * r, g.w * (v.w - mean) * r};
	});
}
EXPORT(norm_gains)

// column_add: dst[j] += the sum of the chunks of column j.
KERNEL(column_add)(float *dst, const double *part, int chunks, int n) {
	SHARED double shared[COLUMN_WARPS][32];
	double s = chunks_total(part, shared, chunks, n);
	int column = 32 * blockIdx.x + lane();
	if (warp() == 0 && column < n) dst[column] = (float)(dst[column] + s);
}
EXPORT(column_add)
