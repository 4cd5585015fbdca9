// How alike the attention of two layers is: sums over all pairs of products of both.
#pragma once
#include "mask.cuh"
#include "panel.cuh"

// attn_alike: sums[h, tile] is Σ A*B, Σ A*A and Σ B*B over the pairs of a tile of queries and every key that one of them sees. A is made from
// qa and ka, B from qb and kb; panels and groups may differ. A block takes a tile of 64 queries, the last first. Lanes add up a tile of
// keys in f32, tiles in float64.
template <int TERMS>
DEVICE void attn_alike(double *sums, const uint16_t *qa, const uint16_t *ka, const float *la, const int *ma, int panels_a, int group_a, float scale_a, const uint16_t *qb, const uint16_t *kb, const float *lb, const int *mb, int panels_b, int group_b, float scale_b, int heads, int t, int tp) {
	using R = Ring<TERMS, 64, false, TERMS == 1 ? 4 : 2, 2>;
	const int tiles = (t + 63) / 64, h = blockIdx.x % heads, tile = tiles - 1 - blockIdx.x / heads, q0 = tile * 64, q1 = min(q0 + 64, t);
	const long long size_a = (long long)tp * panels_a * kPanel, size_b = (long long)tp * panels_b * kPanel;
	const int ga = h / group_a, gb = h / group_b;
	const Mask mask_a = mask_of(ma, ga), mask_b = mask_of(mb, gb);
	R ring;
	ring.begin(dynamic_shared(), Rows{qa + h * size_a, heads * size_a, panels_a, tp}, Rows{ka + ga * size_a, heads / group_a * size_a, panels_a, tp}, Rows{qb + h * size_b, heads * size_b, panels_b, tp}, Rows{kb + gb * size_b, heads / group_b * size_b, panels_b, tp});
	ring.rows(q0);
	const int row = q0 + warp() % 4 * 16 + lane() / 4, column = warp() / 4 * 32 + lane() % 4 * 2;
	float log_a[2], log_b[2];
	UNROLL for (int r = 0; r < 2; r++) {
		const int i = row + r * 8;
		log_a[r] = i < t ? la[(long long)h * t + i] * 1.44269504f : INFINITY;
		log_b[r] = i < t ? lb[(long long)h * t + i] * 1.44269504f : INFINITY;
	}
	double total[3] = {0, 0, 0};
	for (int j0 = 0; j0 < q1; j0 += 64) {
		if (mask_hides(mask_a, q0, q1, j0, j0 + 64) && mask_hides(mask_b, q0, q1, j0, j0 + 64)) continue;
		const bool all = mask_shows(mask_a, q0, q0 + 64, j0, j0 + 64) && mask_shows(mask_b, q0, q0 + 64, j0, j0 + 64);
		typename R::D x, y;
		ring.multiply(x, y, j0, j0 + 64 < q1 ? j0 + 64 : -1);
		float sum[3] = {0, 0, 0};
		UNROLL for (int r = 0; r < 2; r++) UNROLL for (int n = 0; n < 4; n++) UNROLL for (int e = 0; e < 2; e++) {
			const int i = row + r * 8, j = j0 + column + n * 8 + e;
			float a = exp2_fast(fmaf(x.high[0][n][2 * r + e], scale_a, -log_a[r])), b = exp2_fast(fmaf(y.high[0][n][2 * r + e], scale_b, -log_b[r]));
			if (!all && !mask_sees(mask_a, i, j)) a = 0;
			if (!all && !mask_sees(mask_b, i, j)) b = 0;
			sum[0] = fmaf(a, b, sum[0]);
			sum[1] = fmaf(a, a, sum[1]);
			sum[2] = fmaf(b, b, sum[2]);
		}
		UNROLL for (int n = 0; n < 3; n++) total[n] += sum[n];
	}
	SHARED double part[8][3];
	UNROLL for (int n = 0; n < 3; n++) {
		const double x = warp_sum(total[n]);
		if (lane() == 0) part[warp()][n] = x;
	}
	__syncthreads();
	if (threadIdx.x < 3) {
		double x = 0;
		for (int w = 0; w < 8; w++) x += part[w][threadIdx.x];
		sums[((long long)h * tiles + tile) * 3 + threadIdx.x] = x;
	}
}
