// The most attended key of single rows of attention, in f32 whatever the class of the device: few rows are asked for, and close
// scores are told apart.
#include "mask.cuh"

// A block takes 8 queries that share a KV head, one after the other in the list of items: item e is query head e%R of the KV head
// for query rows[e/R], R query heads having one KV head. A thread takes a key.
static constexpr int kItems = 8, kKeys = 128, kSlice = 32;

// argmax_take keeps the larger of two scores, of equals the lower key.
DEVICE void argmax_take(float &best, int &at, float score, int key) {
	if (score > best || (score == best && key < at)) {
		best = score;
		at = key;
	}
}

// attn_argmax: best[h, r, c] is the largest score, natural and scaled, of query rows[r] of head h among the keys of chunk c, and
// at[h, r, c] its key; -inf and the largest int where it sees none. Chunks are of `chunk` keys, a multiple of 128. Blocks:
// (chunks, ⌈n*R/8⌉, G). Dynamic shared memory: 8*K floats.
KERNEL(attn_argmax)(float *best, int *at, const float *q, const float *k, const int *rows, const int *masks, int n, int T, int H, int G, int K, float scale, int chunk) {
	SHARED float ks[kKeys][kSlice + 1];
	SHARED float won[4][kItems];
	SHARED int where[4][kItems];
	float *qs = (float *)dynamic_shared();
	const int t = threadIdx.x, g = blockIdx.z, R = H / G, items = n * R, e0 = blockIdx.y * kItems;
	const Mask mask = mask_of(masks, g);
	const int lo = blockIdx.x * chunk, hi = min(T, lo + chunk);
	int row[kItems], last = -1, first = T;
	UNROLL for (int e = 0; e < kItems; e++) {
		row[e] = e0 + e < items ? rows[(e0 + e) / R] : -1;
		last = max(last, row[e]);
		if (row[e] >= 0) first = min(first, row[e]);
	}
	for (int x = t; x < kItems * K; x += kKeys) {
		int e = x / K, c = x - e * K;
		if (e0 + e < items) qs[c * kItems + e] = q[((long long)rows[(e0 + e) / R] * H + g * R + (e0 + e) % R) * K + c];
		else qs[c * kItems + e] = 0;
	}
	float top[kItems];
	int key[kItems];
	UNROLL for (int e = 0; e < kItems; e++) top[e] = -INFINITY, key[e] = 0x7fffffff;
	for (int j0 = lo; j0 < hi && j0 <= last; j0 += kKeys) {
		if (mask_hides(mask, first, last + 1, j0, j0 + kKeys)) continue;
		float sum[kItems];
		UNROLL for (int e = 0; e < kItems; e++) sum[e] = 0;
		for (int c0 = 0; c0 < K; c0 += kSlice) {
			__syncthreads();
			for (int x = t; x < kKeys * kSlice; x += kKeys) {
				int j = x / kSlice, c = x % kSlice;
				ks[j][c] = j0 + j < T && c0 + c < K ? k[((long long)(j0 + j) * G + g) * K + c0 + c] : 0;
			}
			__syncthreads();
			for (int c = 0; c < min(kSlice, K - c0); c++) {
				float x = ks[t][c];
				const float *qc = qs + (c0 + c) * kItems;
				UNROLL for (int e = 0; e < kItems; e++) sum[e] = fmaf(qc[e], x, sum[e]);
			}
		}
		int j = j0 + t;
		UNROLL for (int e = 0; e < kItems; e++)
			if (mask_sees(mask, row[e], j)) argmax_take(top[e], key[e], sum[e] * scale, j);
	}
	UNROLL for (int e = 0; e < kItems; e++) {
		for (int d = 16; d > 0; d /= 2) {
			float other = __shfl_xor_sync(0xffffffffu, top[e], d);
			int there = __shfl_xor_sync(0xffffffffu, key[e], d);
			argmax_take(top[e], key[e], other, there);
		}
		if (lane() == 0) won[warp()][e] = top[e], where[warp()][e] = key[e];
	}
	__syncthreads();
	if (t < kItems && e0 + t < items) {
		float score = won[0][t];
		int j = where[0][t];
		for (int w = 1; w < 4; w++) argmax_take(score, j, won[w][t], where[w][t]);
		long long to = ((long long)(g * R + (e0 + t) % R) * n + (e0 + t) / R) * gridDim.x + blockIdx.x;
		best[to] = score;
		at[to] = j;
	}
}
EXPORT(attn_argmax)

// attn_argmax_join: key[h, r] and peak[h, r], its attention, from the bests of `chunks` chunks. A thread takes one of H*n rows.
KERNEL(attn_argmax_join)(int *key, float *peak, const float *best, const int *at, const int *rows, const float *lse, int n, int T, int H, int chunks) {
	long long x = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (x >= (long long)H * n) return;
	float top = -INFINITY;
	int j = 0x7fffffff;
	for (int c = 0; c < chunks; c++) argmax_take(top, j, best[x * chunks + c], at[x * chunks + c]);
	key[x] = j;
	peak[x] = expf(top - lse[x / n * T + rows[x % n]]);
}
EXPORT(attn_argmax_join)
