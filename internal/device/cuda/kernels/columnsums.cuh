// How much attention keys receive over all queries: Σ_i e^(s[i,j]-lse[i]).
#pragma once
#include "mask.cuh"
#include "panel.cuh"

// column_sums: a block takes a tile of KEYS keys of one query head, resident, and queries pass by, ascending. A lane adds up its 8 columns
// of a tile of queries in f32 and tiles in float64. Blocks are numbered by tiles of keys, the first, which most queries see, in front,
// and in a tile by query heads.
template <int TERMS, int KEYS, bool KEPT, int STAGES>
DEVICE void column_sums(double *sums, float *rounded, const uint16_t *q, const uint16_t *k, const float *lse, const int *masks, int heads, int group, int t, int tp, int panels, float scale) {
	using R = Ring<TERMS, KEYS, KEPT, STAGES, 1>;
	constexpr int MT = R::MT;
	const int h = blockIdx.x % heads, j0 = blockIdx.x / heads * KEYS;
	const long long size = (long long)tp * panels * kPanel;
	const Rows keys = {k + h / group * size, heads / group * size, panels, tp}, queries = {q + h * size, heads * size, panels, tp}, none = {0, 0, 0, 0};
	const Mask mask = mask_of(masks, h / group);
	const float *row = lse + (long long)h * t;
	const int key = j0 + warp() % 4 * (KEYS / 4) + lane() / 4, column = warp() / 4 * 32 + lane() % 4 * 2;
	R ring;
	ring.begin(dynamic_shared(), keys, queries, none, none);
	ring.rows(j0);
	double total[MT][2];
	UNROLL for (int m = 0; m < MT; m++) total[m][0] = total[m][1] = 0;
	const Tiles tiles = query_tiles(mask, j0, min(j0 + KEYS, t), t, 64);
	for (int n = 0; n < tiles.count; n++) {
		const int q0 = tile_number(tiles, n) * 64;
		float log[4][2];
		UNROLL for (int c = 0; c < 4; c++) UNROLL for (int e = 0; e < 2; e++) {
			const int i = q0 + column + c * 8 + e;
			log[c][e] = i < t ? row[i] * 1.44269504f : INFINITY;
		}
		typename R::D s;
		ring.multiply(s, s, q0, n + 1 < tiles.count ? tile_number(tiles, n + 1) * 64 : -1);
		const bool all = mask_shows(mask, q0, q0 + 64, j0, j0 + KEYS);
		UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
			float sum = 0;
			UNROLL for (int c = 0; c < 4; c++) UNROLL for (int e = 0; e < 2; e++) {
				const float p = exp2_fast(fmaf(s.high[m][c][2 * r + e], scale, -log[c][e]));
				if (all || mask_sees(mask, q0 + column + c * 8 + e, key + m * 16 + r * 8)) sum += p;
			}
			total[m][r] += sum;
		}
	}
	SHARED double right[KEYS];
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
		double &x = total[m][r];
		x += __shfl_xor_sync(0xffffffffu, x, 1);
		x += __shfl_xor_sync(0xffffffffu, x, 2);
		if (warp() >= 4 && lane() % 4 == 0) right[key - j0 + m * 16 + r * 8] = x;
	}
	__syncthreads();
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
		const int j = key + m * 16 + r * 8;
		if (warp() >= 4 || lane() % 4 != 0 || j >= t) continue;
		const double x = total[m][r] + right[j - j0];
		if (sums) sums[(long long)h * t + j] = x;
		else rounded[(long long)h * t + j] = (float)x;
	}
}
