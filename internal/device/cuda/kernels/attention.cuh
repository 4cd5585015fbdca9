// Attention of one tile of queries over the keys that they see, in one pass under a running maximum (Milakov and Gimelshein,
// arXiv:1805.02867; Dao, arXiv:2307.08691).
#pragma once
#include "mask.cuh"
#include "tile.cuh"

// Place is what a block works at: query head `query` of KV head `unit`, these counted over sequences, and a tile of positions.
struct Place {
	int unit, query, tile;
};

// place_of numbers blocks by bands of KV heads whose keys and values the cache holds at once; in a band the last tiles come first,
// because they see the most keys.
DEVICE Place place_of(int block, int units, int band, int group, int tiles) {
	const int from = block / (band * group * tiles) * band, n = band < units - from ? band : units - from;
	const int rest = block - from * group * tiles, at = rest % (n * group);
	Place p;
	p.unit = from + at / group;
	p.query = at % group;
	p.tile = tiles - 1 - rest / (n * group);
	return p;
}

// Pair is two values that are stored at once.
struct alignas(8) Pair {
	float x, y;
};

// quad_max and quad_sum are over the four lanes that share rows of a fragment.
DEVICE float quad_max(float x) {
	x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
	return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
DEVICE float quad_sum(float x) {
	x += __shfl_xor_sync(0xffffffffu, x, 1);
	return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// hide makes the scores of queries from q0 and keys from j0 that the mask hides -Inf.
template <int MT, int NB>
DEVICE void hide(float (&s)[MT][NB][4], Mask mask, int q0, int j0) {
	const int i0 = q0 + lane() / 4, k0 = j0 + lane() % 4 * 2;
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < NB; n++) UNROLL for (int e = 0; e < 4; e++)
		if (!mask_sees(mask, i0 + m * 16 + e / 2 * 8, k0 + n * 8 + e % 2)) s[m][n][e] = -INFINITY;
}

// Softmax of some rows as it runs: of each row of the lane the maximum under which its exponentials stand, in powers of two, and their
// sum, of this lane's columns.
template <int MT>
struct Softmax {
	float top[MT][2], total[MT][2];
};

// soften turns scores into exponentials of base 2 of scale*s-top. The maximum of a row moves only where a score is more than 2^8 times
// above it: f32 has room for that, and what was summed under the old one seldom has to be scaled. Where a neighbour's moves a row is
// scaled by 1.
template <int MT, int NB, int DB>
DEVICE void soften(float (&s)[MT][NB][4], Softmax<MT> &run, float (&acc)[MT][DB][4], float scale) {
	float x[MT][2];
	bool moves = false;
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
		x[m][r] = fmaxf(s[m][0][2 * r], s[m][0][2 * r + 1]);
		UNROLL for (int n = 1; n < NB; n++) x[m][r] = fmaxf(x[m][r], fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
	}
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
		x[m][r] = quad_max(x[m][r]) * scale;
		moves = moves || x[m][r] > run.top[m][r] + 8;
	}
	if (moves) {
		UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
			const float top = x[m][r] > run.top[m][r] + 8 ? x[m][r] : run.top[m][r], fade = exp2_fast(run.top[m][r] - top);
			run.top[m][r] = top;
			run.total[m][r] *= fade;
			UNROLL for (int d = 0; d < DB; d++) acc[m][d][2 * r] *= fade, acc[m][d][2 * r + 1] *= fade;
		}
	}
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < NB; n++) UNROLL for (int e = 0; e < 4; e++) {
		s[m][n][e] = exp2_fast(s[m][n][e] * scale - run.top[m][e / 2]);
		run.total[m][e / 2] += s[m][n][e];
	}
}

// store_rows writes the rows of a fragment below t, of dim columns each, ld apart, times factor[m][0 or 1].
template <int MT, int DB>
DEVICE void store_rows(float *out, long long ld, const float (&acc)[MT][DB][4], const float (&factor)[MT][2], int row, int t, int dim) {
	const bool pairs = dim % 2 == 0 && ((uintptr_t)out | (uintptr_t)(ld * 4)) % 8 == 0;
	const int col = lane() % 4 * 2;
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
		const int i = row + m * 16 + r * 8 + lane() / 4;
		if (i < t) {
			float *to = out + i * ld + col;
			UNROLL for (int d = 0; d < DB; d++) {
				const float x = acc[m][d][2 * r] * factor[m][r], y = acc[m][d][2 * r + 1] * factor[m][r];
				if (pairs && d * 8 + col < dim) {
					*(Pair *)(to + d * 8) = Pair{x, y};
				} else {
					if (d * 8 + col < dim) to[d * 8] = x;
					if (d * 8 + col + 1 < dim) to[d * 8 + 1] = y;
				}
			}
		}
	}
}

// finish divides rows by the sums of their exponentials and writes them and, where lse is there, the logs of these sums.
template <int MT, int DB>
DEVICE void finish(float *out, long long ld, float *lse, const float (&acc)[MT][DB][4], const Softmax<MT> &run, int row, int t, int dim) {
	float factor[MT][2];
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
		const float total = quad_sum(run.total[m][r]);
		const int i = row + m * 16 + r * 8 + lane() / 4;
		factor[m][r] = 1 / total;
		if (lse && i < t && lane() % 4 == 0) lse[i] = run.top[m][r] * 0.69314718f + logf(total);
	}
	store_rows(out, ld, acc, factor, row, t, dim);
}

// attention computes out [seqs, t, H*dim] and, where it is there, lse [seqs, H, t] of the query heads of `heads` KV heads; out and lse
// point at the first of them. q is planes [TERMS][seqs, heads*group, tp, KP], k and v [TERMS][seqs, heads, tp, KP]; scale is above 0
// and has the factor of base 2. A block of WARPS warps takes 16*MT*WARPS queries and keys in tiles of COLS; it needs
// 2*TERMS*KP*(16*MT*WARPS+2*COLS) bytes of shared memory. The next values are on their way while scores are computed, the next keys while
// values are summed.
template <int KP, int TERMS, int MT, int WARPS, int COLS>
DEVICE void attention(float *out, float *lse, const uint16_t *q, const uint16_t *k, const uint16_t *v, const int *masks, int seqs, int heads,
                      int group, int H, int t, int tp, int dim, int band, float scale) {
	const int ROWS = 16 * MT * WARPS, row_bytes = 2 * KP;
	const Place p = place_of(blockIdx.x, seqs * heads, band, group, (t + ROWS - 1) / ROWS);
	const int seq = p.unit / heads, head = p.unit % heads;
	const Mask mask = mask_of(masks, head);
	const long long stride = (long long)seqs * heads * tp * KP;
	const int query0 = (p.unit * group + p.query) * tp, key0 = p.unit * tp; // rows of planes
	char *qs = dynamic_shared(), *ks = qs + TERMS * ROWS * row_bytes, *vs = ks + TERMS * COLS * row_bytes;
	const int q0 = p.tile * ROWS, q1 = q0 + ROWS < t ? q0 + ROWS : t, row = q0 + warp() * MT * 16;
	const Tiles tiles = key_tiles(mask, q0, q1, COLS);
	tile_load<KP, TERMS, ROWS, WARPS * 32, true>(qs, q, stride * group, query0 + q0, query0 + tp);
	tile_load<KP, TERMS, COLS, WARPS * 32, false>(ks, k, stride, key0 + tile_number(tiles, 0) * COLS, 0);
	copy_commit();
	float acc[MT][KP / 8][4];
	tile_clear(acc);
	Softmax<MT> run;
	UNROLL for (int m = 0; m < MT; m++) run.top[m][0] = run.top[m][1] = -1e30f, run.total[m][0] = run.total[m][1] = 0;
	for (int n = 0; n < tiles.count; n++) {
		const int j0 = tile_number(tiles, n) * COLS;
		const bool seen = row < t && !mask_hides(mask, row, row + 16 * MT, j0, j0 + COLS);
		float s[MT][COLS / 8][4];
		copy_wait<0>();
		__syncthreads();
		tile_load<KP, TERMS, COLS, WARPS * 32, false>(vs, v, stride, key0 + j0, 0);
		copy_commit();
		if (seen) tile_dots<KP, TERMS, MT, COLS / 8, ROWS, COLS>(s, qs + warp() * MT * 16 * row_bytes, ks);
		copy_wait<0>();
		__syncthreads();
		if (n + 1 < tiles.count) tile_load<KP, TERMS, COLS, WARPS * 32, false>(ks, k, stride, key0 + tile_number(tiles, n + 1) * COLS, 0);
		copy_commit();
		if (seen) {
			if (!mask_shows(mask, row, row + 16 * MT, j0, j0 + COLS)) hide(s, mask, row, j0);
			soften(s, run, acc, scale);
			uint32_t w[TERMS][MT][COLS / 16][4];
			tile_weights(w, s);
			tile_sum<KP, TERMS, MT, COLS / 16, KP / 8, COLS>(acc, w, vs);
		}
	}
	const int query = head * group + p.query;
	finish(out + (long long)seq * t * H * dim + query * dim, (long long)H * dim, lse ? lse + ((long long)seq * H + query) * t : nullptr, acc, run, row, t, dim);
}

// ATTENTION defines the kernel of a width of rows and a number of planes.
#define ATTENTION(KP, TERMS, MT, WARPS, COLS)                                                                                                \
	BOUNDED(attention_##KP##_##TERMS, WARPS * 32, 2)                                                                                         \
	(float *out, float *lse, const uint16_t *q, const uint16_t *k, const uint16_t *v, const int *masks, int seqs, int heads, int group, int H, \
	 int t, int tp, int dim, int band, float scale) {                                                                                        \
		attention<KP, TERMS, MT, WARPS, COLS>(out, lse, q, k, v, masks, seqs, heads, group, H, t, tp, dim, band, scale);                     \
	}                                                                                                                                        \
	EXPORT(attention_##KP##_##TERMS)
