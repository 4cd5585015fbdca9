// The most attended key of single rows of attention.
#include "rowscores.cuh"

// argmax_take keeps the larger of two scores, of equals the lower key.
DEVICE void argmax_take(float &best, int &at, float score, int key) {
	if (score > best || (score == best && key < at)) {
		best = score;
		at = key;
	}
}

// attn_argmax: best[h, r, c] is the largest score, natural and scaled, of query rows[r] of head h among the keys of chunk c, and
// at[h, r, c] its key; -inf and the largest int where it sees none. Chunks are of `chunk` keys, a multiple of 128. Blocks:
// (chunks, ⌈n*(H/G)/8⌉, G), of 128 threads. Dynamic shared memory: 8*dim floats.
KERNEL(attn_argmax)(float *best, int *at, const float *q, const float *k, const int *rows, const int *masks, int n, int T, int H, int G, int dim, int terms, float scale, int chunk) {
	SHARED float ks[kKeys][kSlice + 1];
	SHARED float won[4][kItems];
	SHARED int where[4][kItems];
	RowScores r;
	r.begin((float *)dynamic_shared(), q, rows, n, H, G, dim, terms);
	const Mask mask = mask_of(masks, r.head);
	const int lo = blockIdx.x * chunk, hi = min(T, lo + chunk), t = threadIdx.x;
	float top[kItems];
	int key[kItems];
	UNROLL for (int e = 0; e < kItems; e++) top[e] = -INFINITY, key[e] = 0x7fffffff;
	for (int j0 = lo; j0 < hi && j0 <= r.last; j0 += kKeys) {
		if (mask_hides(mask, r.first, r.last + 1, j0, j0 + kKeys)) continue;
		float sum[kItems];
		r.scores(sum, ks, k, j0, T, G, dim, terms);
		const int j = j0 + t;
		UNROLL for (int e = 0; e < kItems; e++)
			if (j < T && mask_sees(mask, r.row[e], j)) argmax_take(top[e], key[e], sum[e] * scale, j);
	}
	UNROLL for (int e = 0; e < kItems; e++) {
		for (int d = 16; d > 0; d /= 2) {
			const float other = __shfl_xor_sync(0xffffffffu, top[e], d);
			const int there = __shfl_xor_sync(0xffffffffu, key[e], d);
			argmax_take(top[e], key[e], other, there);
		}
		if (lane() == 0) won[warp()][e] = top[e], where[warp()][e] = key[e];
	}
	__syncthreads();
	if (t < kItems && r.from + t < r.items) {
		float score = won[0][t];
		int j = where[0][t];
		for (int w = 1; w < 4; w++) argmax_take(score, j, won[w][t], where[w][t]);
		const long long to = r.place(t, n) * gridDim.x + blockIdx.x;
		best[to] = score;
		at[to] = j;
	}
}
EXPORT(attn_argmax)

// attn_argmax_join: key[h, r] and peak[h, r], its attention, from the bests of `chunks` chunks. A thread takes one of H*n rows.
KERNEL(attn_argmax_join)(int *key, float *peak, const float *best, const int *at, const int *rows, const float *lse, int n, int T, int H, int chunks) {
	const long long x = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (x >= (long long)H * n) return;
	float top = -INFINITY;
	int j = 0x7fffffff;
	for (int c = 0; c < chunks; c++) argmax_take(top, j, best[x * chunks + c], at[x * chunks + c]);
	key[x] = j;
	peak[x] = expf(top - lse[x / n * T + rows[x % n]]);
}
EXPORT(attn_argmax_join)
