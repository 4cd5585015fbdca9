// Single rows and places of attention.
#include "rowscores.cuh"

// attn_rows: a[h, r, j] is the attention of query rows[r] of head h to key j, zero where the mask hides it. Blocks: (⌈T/128⌉,
// ⌈n*(H/G)/8⌉, G), of 128 threads. Dynamic shared memory: 8*dim floats.
KERNEL(attn_rows)(float *a, const float *q, const float *k, const float *lse, const int *rows, const int *masks, int n, int T, int H, int G, int dim, int terms, float scale) {
	SHARED float ks[kKeys][kSlice + 1];
	RowScores r;
	r.begin((float *)dynamic_shared(), q, rows, n, H, G, dim, terms);
	const Mask mask = mask_of(masks, r.head);
	const int j0 = blockIdx.x * kKeys, j = j0 + threadIdx.x;
	float sum[kItems];
	UNROLL for (int e = 0; e < kItems; e++) sum[e] = 0;
	if (r.last >= 0 && !mask_hides(mask, r.first, r.last + 1, j0, j0 + kKeys)) r.scores(sum, ks, k, j0, T, G, dim, terms);
	UNROLL for (int e = 0; e < kItems; e++) {
		if (j >= T || r.from + e >= r.items) continue;
		const int h = r.head * r.group + (r.from + e) % r.group;
		a[r.place(e, n) * T + j] = mask_sees(mask, r.row[e], j) ? expf(sum[e] * scale - lse[(long long)h * T + r.row[e]]) : 0;
	}
}
EXPORT(attn_rows)

// channels of a lane: up to 256 of a head.
static constexpr int kChannels = 8;

// channels_load reads those of a row, zeros past its end.
DEVICE void channels_load(float (&x)[kChannels], const float *row, int dim, int terms) {
	UNROLL for (int c = 0; c < kChannels; c++) {
		const int at = c * 32 + lane();
		x[c] = at < dim ? taken(row[at], terms) : 0;
	}
}

DEVICE float channels_dot(const float (&x)[kChannels], const float *row, int dim, int terms) {
	float sum = 0;
	UNROLL for (int c = 0; c < kChannels; c++) {
		const int at = c * 32 + lane();
		if (at < dim) sum = fmaf(x[c], taken(row[at], terms), sum);
	}
	return sum;
}

// attn_mass: part[h, s] is the attention that head h pays in span s: three numbers, a query and the keys [lo, hi) of it. A warp takes a span
// of a head; blocks: (⌈n/8⌉, H), of 256 threads. lse is that of the queries under whatever mask.
KERNEL(attn_mass)(double *part, const int *spans, const float *q, const float *k, const float *lse, const int *masks, int n, int T, int H, int G, int dim, int terms, float scale) {
	const int s = blockIdx.x * 8 + warp(), h = blockIdx.y, g = h / (H / G);
	if (s >= n) return;
	const int i = spans[3 * s], hi = min(spans[3 * s + 2], i + 1);
	const Mask mask = mask_of(masks, g);
	const float log = lse[(long long)h * T + i];
	float x[kChannels];
	channels_load(x, q + ((long long)i * H + h) * dim, dim, terms);
	double sum = 0;
	for (int j = max(spans[3 * s + 1], 0); j < hi; j++) {
		if (!mask_sees(mask, i, j)) continue;
		sum += expf(warp_sum(channels_dot(x, k + ((long long)j * G + g) * dim, dim, terms)) * scale - log);
	}
	if (lane() == 0) part[(long long)h * n + s] = sum;
}
EXPORT(attn_mass)

// attn_mass_join: to[h, g] is the sum of the spans [from[g], from[g+1]) of part [H, n]. A warp takes a sum: its lanes take every 32nd span.
// Blocks: (⌈groups/8⌉, H), of 256 threads.
KERNEL(attn_mass_join)(double *to, const double *part, const int *from, int groups, int n) {
	const int g = blockIdx.x * 8 + warp(), h = blockIdx.y;
	if (g >= groups) return;
	double sum = 0;
	for (int s = from[g] + lane(); s < from[g + 1]; s += 32) sum += part[(long long)h * n + s];
	sum = warp_sum(sum);
	if (lane() == 0) to[(long long)h * groups + g] = sum;
}
EXPORT(attn_mass_join)
