// The gradients of attention (Dao, arXiv:2307.08691, algorithm 2), in two kernels without a sum that depends on the order of blocks: one
// takes a tile of keys and goes over the queries that see them, the other a tile of queries and goes over the keys that they see. With P
// the attention and dS[i,j] = P[i,j]*(dout[i]·v[j]-delta[i]),
//
//	dv[j] = Σ_i P[i,j]*dout[i]   dk[j] = factor * Σ_i dS[i,j]*q[i]   dq[i] = factor * Σ_j dS[i,j]*k[j]
//
// Both hold two matrices of rows (k and v, or q and dout) and let tiles of the other two pass by. COLS rows of these make a tile, STAGES
// tiles have room at once. SPLIT warps share 16*MT rows: each computes their scores, and a part of the columns of their sums.
#pragma once
#include "attention.cuh"

// AttnBack is what both kernels are told. Planes are those of attention, dout like q; lse and delta are [seqs, heads*group, tp], lse in
// base 2 and +Inf past the last query. scale is above 0 and has the factor of base 2.
struct AttnBack {
	const uint16_t *q, *dout, *k, *v;
	const float *lse, *delta;
	int seqs, heads, group, t, tp, dim;
	float scale, factor;
};

// passing_load starts copies of the rows from c0 on of two matrices, and where the columns of scores are queries of what is known of them.
template <int KP, int TERMS, int COLS, int THREADS, bool KEYS>
DEVICE void passing_load(char *at, const AttnBack &a, int head, int c0) {
	const int bytes = TERMS * COLS * KP * 2;
	const int row = head * a.tp + c0; // of planes
	const long long stride = (long long)a.tp * KP * a.seqs * a.heads * (KEYS ? a.group : 1);
	tile_load<KP, TERMS, COLS, THREADS, false>(at, KEYS ? a.q : a.k, stride, row, 0);
	tile_load<KP, TERMS, COLS, THREADS, false>(at + bytes, KEYS ? a.dout : a.v, stride, row, 0);
	if (KEYS) {
		const int n = threadIdx.x % (COLS / 2), p = n % (COLS / 4);
		if (threadIdx.x < COLS / 2) copy16_async(at + 2 * bytes + n * 16, (n < COLS / 4 ? a.lse : a.delta) + row + p * 4, 16);
	}
}

// slopes makes of dots of queries and keys x the attention, and of dots of dout and values y the slopes dS. Rows are from row on, columns
// from col; those that are queries have lse and delta in `columns`, one after the other.
template <int MT, int COLS, bool KEYS>
DEVICE void slopes(float (&x)[MT][COLS / 8][4], float (&y)[MT][COLS / 8][4], const float *columns, const float (&lse)[MT][2],
                   const float (&delta)[MT][2], float scale) {
	UNROLL for (int n = 0; n < COLS / 8; n++) {
		Pair l = {0, 0}, d = {0, 0};
		if (KEYS) {
			l = *(const Pair *)(columns + n * 8 + lane() % 4 * 2);
			d = *(const Pair *)(columns + COLS + n * 8 + lane() % 4 * 2);
		}
		UNROLL for (int m = 0; m < MT; m++) UNROLL for (int e = 0; e < 4; e++) {
			const float top = !KEYS ? lse[m][e / 2] : e % 2 ? l.y : l.x, mean = !KEYS ? delta[m][e / 2] : e % 2 ? d.y : d.x;
			x[m][n][e] = exp2_fast(x[m][n][e] * scale - top);
			y[m][n][e] = x[m][n][e] * (y[m][n][e] - mean);
		}
	}
}

// hide_slopes makes zeros of what the mask hides.
template <int MT, int NB, bool KEYS>
DEVICE void hide_slopes(float (&x)[MT][NB][4], float (&y)[MT][NB][4], Mask mask, int row, int col) {
	const int r0 = row + lane() / 4, c0 = col + lane() % 4 * 2;
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < NB; n++) UNROLL for (int e = 0; e < 4; e++) {
		const int r = r0 + m * 16 + e / 2 * 8, c = c0 + n * 8 + e % 2;
		if (!(KEYS ? mask_sees(mask, c, r) : mask_sees(mask, r, c))) x[m][n][e] = y[m][n][e] = 0;
	}
}

// Two sums of rows; queries have one.
template <int MT, int DB, bool KEYS>
struct Gradient {
	float first[MT][DB][4], second[KEYS ? MT : 1][KEYS ? DB : 1][4];
};

// hides and shows are mask_hides and mask_shows of rows and columns, whichever are queries.
template <bool KEYS>
DEVICE bool hides(Mask m, int r0, int r1, int c0, int c1) {
	return KEYS ? mask_hides(m, c0, c1, r0, r1) : mask_hides(m, r0, r1, c0, c1);
}
template <bool KEYS>
DEVICE bool shows(Mask m, int r0, int r1, int c0, int c1) {
	return KEYS ? mask_shows(m, c0, c1, r0, r1) : mask_shows(m, r0, r1, c0, c1);
}

// attnback_tile adds what a passing tile gives to the sums of the rows of a warp.
template <int KP, int TERMS, int MT, int ROWS, int COLS, int SPLIT, bool KEYS>
DEVICE void attnback_tile(Gradient<MT, KP / SPLIT / 8, KEYS> &sum, const char *held1, const char *held2, const char *pass1, const float (&lse)[MT][2],
                          const float (&delta)[MT][2], float scale, Mask mask, int row, int col) {
	const int bytes = TERMS * COLS * KP * 2, part = warp() % SPLIT * (KP / SPLIT * 2), DB = KP / SPLIT / 8;
	const char *pass2 = pass1 + bytes;
	float x[MT][COLS / 8][4], y[MT][COLS / 8][4];
	uint32_t w[TERMS][MT][COLS / 16][4];
	tile_dots<KP, TERMS, MT, COLS / 8, ROWS, COLS>(x, held1, pass1);
	tile_dots<KP, TERMS, MT, COLS / 8, ROWS, COLS>(y, held2, pass2);
	slopes<MT, COLS, KEYS>(x, y, (const float *)(pass2 + bytes), lse, delta, scale);
	if (!shows<KEYS>(mask, row, row + 16 * MT, col, col + COLS)) hide_slopes<MT, COLS / 8, KEYS>(x, y, mask, row, col);
	if constexpr (KEYS) {
		tile_weights(w, x);
		tile_sum<KP, TERMS, MT, COLS / 16, DB, COLS>(sum.second, w, pass2 + part);
	}
	tile_weights(w, y);
	tile_sum<KP, TERMS, MT, COLS / 16, DB, COLS>(sum.first, w, pass1 + part);
}

// attnback computes the sums of one block. It needs 4*TERMS*KP*(rows+STAGES*COLS) + STAGES*8*COLS bytes of shared memory.
template <int KP, int TERMS, int MT, int WARPS, int SPLIT, int COLS, int STAGES, bool KEYS>
DEVICE void attnback(Gradient<MT, KP / SPLIT / 8, KEYS> &sum, const AttnBack &a, Mask mask, int unit, int query, int row0) {
	const int ROWS = 16 * MT * WARPS / SPLIT, THREADS = 32 * WARPS, row_bytes = 2 * KP;
	const int held = TERMS * ROWS * row_bytes, passing = 2 * TERMS * COLS * row_bytes + 8 * COLS, mine = warp() / SPLIT * MT * 16;
	const long long stride = (long long)a.tp * KP * a.seqs * a.heads * (KEYS ? 1 : a.group);
	const int row = row0 + mine, end = row0 + ROWS < a.t ? row0 + ROWS : a.t;
	const Tiles tiles = KEYS ? query_tiles(mask, row0, end, a.t, COLS) : key_tiles(mask, row0, end, COLS);
	const int count = KEYS ? tiles.count * a.group : tiles.count;
	const int head = unit * a.group + query;
	char *a1 = dynamic_shared(), *a2 = a1 + held, *passes = a2 + held;
	const int held0 = (KEYS ? unit : head) * a.tp; // row of planes
	tile_load<KP, TERMS, ROWS, THREADS, true>(a1, KEYS ? a.k : a.q, stride, held0 + row0, held0 + a.tp);
	tile_load<KP, TERMS, ROWS, THREADS, true>(a2, KEYS ? a.v : a.dout, stride, held0 + row0, held0 + a.tp);
	float top[MT][2], mean[MT][2];
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int r = 0; r < 2; r++) {
		const int i = row + m * 16 + r * 8 + lane() / 4;
		top[m][r] = KEYS || i >= a.t ? INFINITY : a.lse[head * a.tp + i];
		mean[m][r] = KEYS || i >= a.t ? 0 : a.delta[head * a.tp + i];
	}
	tile_clear(sum.first);
	tile_clear(sum.second);
	int at = 0, from = KEYS ? head : unit; // for keys, the tile of this query head
	passing_load<KP, TERMS, COLS, THREADS, KEYS>(passes, a, from, tile_number(tiles, 0) * COLS);
	copy_commit();
	for (int n = 0; n < count; n++) {
		const int col = tile_number(tiles, KEYS ? at : n) * COLS;
		char *pass = passes + (STAGES > 1 ? n % 2 * passing : 0);
		copy_wait<0>();
		__syncthreads();
		if (KEYS && ++at == tiles.count) at = 0, from++;
		if (STAGES > 1 && n + 1 < count)
			passing_load<KP, TERMS, COLS, THREADS, KEYS>(passes + (n + 1) % 2 * passing, a, from, tile_number(tiles, KEYS ? at : n + 1) * COLS);
		copy_commit();
		if (row < a.t && !hides<KEYS>(mask, row, row + 16 * MT, col, col + COLS)) {
			const char *held1 = a1 + mine * row_bytes;
			attnback_tile<KP, TERMS, MT, ROWS, COLS, SPLIT, KEYS>(sum, held1, held1 + held, pass, top, mean, a.scale, mask, row, col);
		}
		if (STAGES == 1) {
			__syncthreads();
			if (n + 1 < count) passing_load<KP, TERMS, COLS, THREADS, KEYS>(passes, a, from, tile_number(tiles, KEYS ? at : n + 1) * COLS);
			copy_commit();
		}
	}
}

template <int MT>
DEVICE void fill(float (&factor)[MT][2], float x) {
	UNROLL for (int m = 0; m < MT; m++) factor[m][0] = factor[m][1] = x;
}

// attnback_keys computes dk and dv, [seqs, t, ld], of `heads` KV heads; they point at the first of them.
template <int KP, int TERMS, int MT, int WARPS, int SPLIT, int COLS, int STAGES>
DEVICE void attnback_keys(float *dk, float *dv, int ld, const AttnBack &a, const int *masks, int band) {
	const int rows = 16 * MT * WARPS / SPLIT, tiles = (a.t + rows - 1) / rows;
	const Place p = place_of(blockIdx.x, a.seqs * a.heads, band, 1, tiles);
	const int row0 = (tiles - 1 - p.tile) * rows, row = row0 + warp() / SPLIT * MT * 16, part = warp() % SPLIT * (KP / SPLIT);
	Gradient<MT, KP / SPLIT / 8, true> sum;
	attnback<KP, TERMS, MT, WARPS, SPLIT, COLS, STAGES, true>(sum, a, mask_of(masks, p.unit % a.heads), p.unit, 0, row0);
	const long long at = (long long)(p.unit / a.heads) * a.t * ld + p.unit % a.heads * a.dim + part;
	float factor[MT][2];
	fill(factor, a.factor);
	store_rows(dk + at, ld, sum.first, factor, row, a.t, a.dim - part);
	fill(factor, 1);
	store_rows(dv + at, ld, sum.second, factor, row, a.t, a.dim - part);
}

// attnback_queries computes dq, [seqs, t, ld], of the query heads of `heads` KV heads; it points at the first of them.
template <int KP, int TERMS, int MT, int WARPS, int SPLIT, int COLS, int STAGES>
DEVICE void attnback_queries(float *dq, int ld, const AttnBack &a, const int *masks, int band) {
	const int rows = 16 * MT * WARPS / SPLIT;
	const Place p = place_of(blockIdx.x, a.seqs * a.heads, band, a.group, (a.t + rows - 1) / rows);
	const int row0 = p.tile * rows, row = row0 + warp() / SPLIT * MT * 16, part = warp() % SPLIT * (KP / SPLIT);
	Gradient<MT, KP / SPLIT / 8, false> sum;
	attnback<KP, TERMS, MT, WARPS, SPLIT, COLS, STAGES, false>(sum, a, mask_of(masks, p.unit % a.heads), p.unit, p.query, row0);
	const long long at = (long long)(p.unit / a.heads) * a.t * ld + (p.unit % a.heads * a.group + p.query) * a.dim + part;
	float factor[MT][2];
	fill(factor, a.factor);
	store_rows(dq + at, ld, sum.first, factor, row, a.t, a.dim - part);
}

// ATTNBACK_KEYS and ATTNBACK_QUERIES define the kernels of a width of rows and a number of planes.
#define ATTNBACK_KEYS(KP, TERMS, MT, WARPS, SPLIT, COLS, STAGES)                                                                             \
	BOUNDED(attnback_keys_##KP##_##TERMS, WARPS * 32, 2)                                                                                     \
	(float *dk, float *dv, int ld, const uint16_t *q, const uint16_t *dout, const uint16_t *k, const uint16_t *v, const float *lse,          \
	 const float *delta, const int *masks, int seqs, int heads, int group, int t, int tp, int dim, int band, float scale, float factor) {    \
		const AttnBack a = {q, dout, k, v, lse, delta, seqs, heads, group, t, tp, dim, scale, factor};                                       \
		attnback_keys<KP, TERMS, MT, WARPS, SPLIT, COLS, STAGES>(dk, dv, ld, a, masks, band);                                                \
	}                                                                                                                                        \
	EXPORT(attnback_keys_##KP##_##TERMS)
#define ATTNBACK_QUERIES(KP, TERMS, MT, WARPS, SPLIT, COLS, STAGES)                                                                          \
	BOUNDED(attnback_queries_##KP##_##TERMS, WARPS * 32, 2)                                                                                  \
	(float *dq, int ld, const uint16_t *q, const uint16_t *dout, const uint16_t *k, const uint16_t *v, const float *lse,                     \
	 const float *delta, const int *masks, int seqs, int heads, int group, int t, int tp, int dim, int band, float scale, float factor) {    \
		const AttnBack a = {q, dout, k, v, lse, delta, seqs, heads, group, t, tp, dim, scale, factor};                                       \
		attnback_queries<KP, TERMS, MT, WARPS, SPLIT, COLS, STAGES>(dq, ld, a, masks, band);                                                 \
	}                                                                                                                                        \
	EXPORT(attnback_queries_##KP##_##TERMS)
