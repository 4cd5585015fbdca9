// Statistics of attention by the distance of keys. See attnstats.cuh.
#include "attnwalk.cuh"

// Sums are [heads, lanes, number] each, zeros at first, and null where they are not asked for. scale is that of scores times log2(e), lse
// natural. The names are the number of planes and how rows pass by (see Ring): of those whose shared memory a device has, the first is taken.
#define BANDS(NAME, TERMS, KEPT, STAGES, BLOCKS)                                                                                              \
	BOUNDED(NAME, 256, BLOCKS)                                                                                                                   \
	(double *bands, int width, int number, int sink, const uint16_t *q, const uint16_t *k, const float *lse, const int *masks, int heads,     \
	 int group, int lanes, int t, int tp, int panels, float scale) {                                                                         \
		const Stats st = {bands, nullptr, nullptr, nullptr, width, number, sink};                                                            \
		statistics<TERMS, KEPT, STAGES, false>(st, q, k, nullptr, nullptr, lse, nullptr, masks, heads, group, lanes, t, tp, panels, scale);      \
	}                                                                                                                                        \
	EXPORT(NAME)

BANDS(attn_bands_1_kept, 1, true, 4, 2)
BANDS(attn_bands_3_kept, 3, true, 2, 2)
BANDS(attn_bands_3_passing, 3, false, 2, 1)
BANDS(attn_bands_3_single, 3, false, 1, 2)

#define SLOPES(NAME, TERMS, KEPT, STAGES, BLOCKS)                                                                                      \
	BOUNDED(NAME, 256, BLOCKS)                                                                                                                    \
	(double *bands, double *influence, double *drop, double *magnitude, int width, int number, int sink, const uint16_t *q,                   \
	 const uint16_t *k, const uint16_t *dout, const uint16_t *v, const float *lse, const float *mean, const int *masks, int heads, int group,  \
	 int lanes, int t, int tp, int panels, float scale) {                                                                                    \
		const Stats st = {bands, influence, drop, magnitude, width, number, sink};                                                           \
		statistics<TERMS, KEPT, STAGES, true>(st, q, k, dout, v, lse, mean, masks, heads, group, lanes, t, tp, panels, scale);                   \
	}                                                                                                                                        \
	EXPORT(NAME)

SLOPES(attn_slopes_1_kept, 1, true, 4, 2)
SLOPES(attn_slopes_1_passing, 1, false, 2, 2)
SLOPES(attn_slopes_3_kept, 3, true, 2, 1)
SLOPES(attn_slopes_3_passing, 3, false, 2, 1)
SLOPES(attn_slopes_3_single, 3, false, 1, 1)

// attn_mean: mean[h, i] = Σ_c dout[i, h, c]*out[i, h, c], with dout as its planes hold it: where they are rounded, so are the slopes that
// the mean is taken from. out is [t, H, dim] from its first head on; a warp takes a row of one of `heads` heads.
KERNEL(attn_mean)(float *mean, const uint16_t *dout, const float *out, int terms, int heads, int H, int t, int tp, int columns, int dim) {
	const long long row = (long long)blockIdx.x * (blockDim.x / 32) + warp();
	if (row >= (long long)heads * t) return;
	const int h = (int)(row / t), i = (int)(row % t);
	const long long stride = (long long)heads * tp * columns;
	double sum = 0;
	for (int c = lane(); c < dim; c += 32) {
		double x = 0;
		for (int n = 0; n < terms; n++) x += bf16_to(dout[n * stride + ((long long)h * tp + i) * columns + c]);
		sum += x * out[((long long)i * H + h) * dim + c];
	}
	sum = warp_sum(sum);
	if (lane() == 0) mean[row] = (float)sum;
}
EXPORT(attn_mean)

// attn_join: to[h, b] is the sum of the lanes' sums from[h, lane, b], lanes ascending. A thread takes one of heads*number sums.
KERNEL(attn_join)(double *to, const double *from, int heads, int lanes, int number) {
	const long long x = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (x >= (long long)heads * number) return;
	const double *at = from + x / number * lanes * number + x % number;
	double sum = 0;
	for (int n = 0; n < lanes; n++) sum += at[(long long)n * number];
	to[x] = sum;
}
EXPORT(attn_join)
