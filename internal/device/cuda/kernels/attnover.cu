// Attention of single queries over any sets of keys, in f32, of values as attention takes them.
#include "rowscores.cuh"

static constexpr int kOverChannels = 8, kOver = 4; // channels of a lane, keys at a time

// Over is the running softmax of a query, of this lane's channels.
struct Over {
	float q[kOverChannels], out[kOverChannels], top, total;
};

// over_keys takes up to 4 keys, `count` of which are there. k and v point at the KV head, ld values lie between their rows.
DEVICE void over_keys(Over &o, const int (&keys)[kOver], int count, const float *k, const float *v, long long ld, int dim, int terms) {
	float s[kOver];
	UNROLL for (int n = 0; n < kOver; n++) {
		const float *row = k + keys[n] * ld;
		s[n] = 0;
		UNROLL for (int c = 0; c < kOverChannels; c++) {
			const int at = c * 32 + lane();
			if (at < dim) s[n] = fmaf(o.q[c], taken(row[at], terms), s[n]);
		}
	}
	for (int d = 16; d > 0; d /= 2) {
		UNROLL for (int n = 0; n < kOver; n++) s[n] += __shfl_xor_sync(0xffffffffu, s[n], d);
	}
	float top = o.top;
	UNROLL for (int n = 0; n < kOver; n++)
		if (n < count) top = fmaxf(top, s[n]);
	const float fade = exp2_fast(o.top - top); // of the first keys 2^-inf
	o.top = top;
	o.total *= fade;
	UNROLL for (int c = 0; c < kOverChannels; c++) o.out[c] *= fade;
	UNROLL for (int n = 0; n < kOver; n++) {
		const float p = n < count ? exp2_fast(s[n] - top) : 0;
		const float *row = v + keys[n] * ld;
		o.total += p;
		UNROLL for (int c = 0; c < kOverChannels; c++) {
			const int at = c * 32 + lane();
			if (at < dim) o.out[c] = fmaf(p, taken(row[at], terms), o.out[c]);
		}
	}
}

// attn_over: out[r, h, :] and lse[h, r] of query rows[r] of head h over the keys j <= rows[r] whose bit is set in seen [H, n, words], bit j%64
// of word j/64; zeros and -inf where there is none. scale is that of scores times log2(e), lse natural. A warp takes a row; blocks: (⌈n/8⌉, H),
// of 256 threads.
BOUNDED(attn_over, 256, 2)(float *out, float *lse, const long long *seen, const int *rows, const float *q, const float *k, const float *v, int n, int words, int H, int G, int dim, int terms, float scale) {
	const int r = blockIdx.x * 8 + warp(), h = blockIdx.y, g = h / (H / G);
	if (r >= n) return;
	const int i = rows[r];
	const long long ld = (long long)G * dim;
	const long long *bits = seen + ((long long)h * n + r) * words;
	Over o;
	o.top = -INFINITY, o.total = 0;
	UNROLL for (int c = 0; c < kOverChannels; c++) {
		const int at = c * 32 + lane();
		o.q[c] = at < dim ? taken(q[((long long)i * H + h) * dim + at], terms) * scale : 0;
		o.out[c] = 0;
	}
	k += (long long)g * dim;
	v += (long long)g * dim;
	int keys[kOver], count = 0;
	UNROLL for (int e = 0; e < kOver; e++) keys[e] = 0;
	for (int w = 0; w <= i / 64; w++) {
		unsigned long long left = (unsigned long long)bits[w];
		if (w == i / 64 && i % 64 < 63) left &= (2ull << i % 64) - 1;
		for (; left; left &= left - 1) {
			UNROLL for (int e = 0; e < kOver; e++)
				if (e == count) keys[e] = w * 64 + __ffsll((long long)left) - 1;
			if (++count == kOver) {
				over_keys(o, keys, count, k, v, ld, dim, terms);
				count = 0;
			}
		}
	}
	if (count > 0) over_keys(o, keys, count, k, v, ld, dim, terms);
	const float inverse = o.total > 0 ? 1 / o.total : 0;
	UNROLL for (int c = 0; c < kOverChannels; c++) {
		const int at = c * 32 + lane();
		if (at < dim) out[((long long)r * H + h) * dim + at] = o.out[c] * inverse;
	}
	if (lane() == 0) lse[(long long)h * n + r] = o.total > 0 ? o.top * 0.69314718f + logf(o.total) : -INFINITY;
}
EXPORT(attn_over)
