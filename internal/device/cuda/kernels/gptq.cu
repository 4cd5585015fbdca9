// Rounding matrices column by column, with the error e = w - q of each column made good by the ones after it (GPTQ, arXiv:2210.17323).
// Matrices are [out, n], row after row, with the columns in the order in which they are rounded.
#include "grid.cuh"
#include "strip.cuh"

// gptq_start copies weights of a kind to work, column order[i] to place i (i where order is null), dead columns as zeros.
KERNEL(gptq_start)(float *work, const void *w, int kind, const int *order, const unsigned char *dead, int out, int n) {
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i >= n) return;
	int c = order ? order[i] : i;
	bool none = dead && dead[c];
	for (long long r = blockIdx.y; r < out; r += gridDim.y) work[r * n + i] = none ? 0 : element(w, kind, r * n + c);
}
EXPORT(gptq_start)

// gptq_block copies columns [i1, i1+count) of work to now, whose rows are width apart.
KERNEL(gptq_block)(float *now, const float *work, int out, int n, int i1, int count, int width) {
	int k = threadIdx.x;
	if (k >= count) return;
	for (long long r = blockIdx.x; r < out; r += gridDim.x) now[r * width + k] = work[r * n + i1 + k];
}
EXPORT(gptq_block)

// gptq_grids finds the grid of every group of width columns of w, a warp for each group. weights, by column, and zeros may be null.
// bad gets the largest magnitude of each group that no grid represents, and flag is set where there is one.
KERNEL(gptq_grids)
(float *scales, signed char *zeros, float *bad, int *flag, const float *w, const float *weights, int out, int n, int width, int symmetric,
 int clip, int low, int high, int store, float least, float most) {
	Finder f = {symmetric, clip, low, high, store, least, most};
	int groups = n / width;
	long long at = (long long)blockIdx.x * (blockDim.x / 32) + warp();
	if (at >= (long long)out * groups) return;
	long long r = at / groups;
	int first = (int)(at % groups) * width;
	Row v = {w + r * n + first, weights ? weights + first : nullptr, width};
	Search<Row> s(f, v);
	bool ok = s.run();
	if (lane() != 0) return;
	scales[at] = s.best.scale;
	if (zeros) zeros[at] = s.best.zero;
	if (!ok) bad[at] = fmaxf(-s.lo, s.hi), *flag = 1;
}
EXPORT(gptq_grids)

// Columns is what the rounding of count columns from i1 on works with. Those before them are finished: work holds their errors, and now
// [out, 256] what the columns themselves are best replaced by for these errors.
struct Columns {
	float *work;
	const float *now;
	const float *corner;  // [256, 256]: A of the columns above the diagonal, 0 elsewhere
	const double *root;   // by place: the diagonal of R
	const int *order;     // column at each place, or null
	const float *weights; // by column: what an error counts in the search for a grid
	signed char *codes;   // [out, n], by column
	float *scales;
	signed char *zeros; // null where all are 0
	float *bad;
	int *flag;
	double *loss, *moved; // by row
	int out, n, i1, count, width, fixed;
};

// choose finds the grids of the group that begins at column s0 of the block, for values as foresee has them.
template <int K>
DEVICE void choose(const Columns &c, const Finder &f, const Lanes<K> &values, long long r0, int s0, float (&scale)[strip_rows], int (&zero)[strip_rows]) {
	Held<K> v;
	int first = c.i1 + s0, groups = c.n / c.width;
	UNROLL for (int k = 0; k < K; k++) v.weights[k] = c.weights ? c.weights[first + 32 * k + lane()] : 1;
	ROLLED for (int r = 0; r < strip_rows; r++) {
		UNROLL for (int q = 0; q < strip_rows; q++) {
			UNROLL for (int k = 0; k < K; k++) v.values[k] = q == r ? values[q][k] : v.values[k];
		}
		Search<Held<K>> s(f, v);
		bool ok = s.run();
		UNROLL for (int q = 0; q < strip_rows; q++) {
			scale[q] = q == r ? s.best.scale : scale[q];
			zero[q] = q == r ? s.best.zero : zero[q];
		}
		if (lane() != 0 || r0 + r >= c.out) continue;
		long long at = (r0 + r) * groups + first / c.width;
		c.scales[at] = s.best.scale;
		if (c.zeros) c.zeros[at] = s.best.zero;
		if (!ok) c.bad[at] = fmaxf(-s.lo, s.hi), *c.flag = 1;
	}
}

// nearest is the value of a grid that is nearest to y, in the stored type.
DEVICE float nearest(const Grid &g, const Finder &f, float y) { return rounded(mul(steps(g, y), g.scale), f.store); }

// take rounds 32 columns, those that stand at k in registers, and corrects the ones after them in the group.
template <int K>
DEVICE void take(Strip<K> &s, const Columns &c, const Finder &f, Lanes<K> &y, int k, int s0, long long r0, const float (&scale)[strip_rows],
                 const int (&zero)[strip_rows], double (&loss)[strip_rows], double (&moved)[strip_rows]) {
	int at = s0 + 32 * k + lane();
	bool inside = at < c.count;
	int column = !inside ? 0 : c.order ? c.order[c.i1 + at] : c.i1 + at;
	Grid g[strip_rows];
	float w[strip_rows];
	UNROLL for (int r = 0; r < strip_rows; r++) {
		long long row = r0 + r, group = row * (c.n / c.width) + column / c.width;
		bool known = c.fixed && row < c.out;
		g[r] = grid_of(f, known ? c.scales[group] : c.fixed ? 1 : scale[r], known ? (c.zeros ? c.zeros[group] : 0) : c.fixed ? 0 : zero[r]);
		w[r] = inside && row < c.out ? c.work[row * c.n + c.i1 + at] : 0;
	}
	s.stage(s0, k);
	for (int l = 0; l < 32; l++) {
		UNROLL for (int r = 0; r < strip_rows; r++) {
			float e = __shfl_sync(0xffffffffu, w[r] - nearest(g[r], f, y[r][k]), l);
			UNROLL for (int m = k; m < K; m++) y[r][m] += mul(s.a[l][32 * m + lane()], e);
		}
	}
	// What a lane's column was rounded from did not change since, as A is 0 on and below the diagonal.
	float e[strip_rows];
	double d = inside ? c.root[c.i1 + at] : 0;
	UNROLL for (int r = 0; r < strip_rows; r++) {
		long long row = r0 + r;
		float q = nearest(g[r], f, y[r][k]);
		e[r] = w[r] - q;
		double left = mul((double)(y[r][k] - q), d), way = e[r];
		if (!inside || row >= c.out) continue;
		c.codes[row * c.n + column] = (int)steps(g[r], y[r][k]) + g[r].zero;
		c.work[row * c.n + c.i1 + at] = e[r];
		loss[r] += mul(left, left);
		moved[r] += mul(way, way);
	}
	s.keep(e, k);
}

// columns rounds the columns of a block, for the rows of a warp.
template <int K>
DEVICE void columns(const Columns &c, const Finder &f) {
	Strip<K> s(c.corner, 256);
	long long r0 = ((long long)blockIdx.x * strip_warps + warp()) * strip_rows;
	s.load(c.now, r0, c.out, c.count);
	double loss[strip_rows] = {}, moved[strip_rows] = {};
	for (int s0 = 0; s0 < c.count; s0 += 32 * K) {
		Lanes<K> y;
		float scale[strip_rows] = {};
		int zero[strip_rows] = {};
		if (!c.fixed) {
			Lanes<K> w;
			UNROLL for (int r = 0; r < strip_rows; r++) {
				UNROLL for (int k = 0; k < K; k++) w[r][k] = r0 + r < c.out ? c.work[(r0 + r) * c.n + c.i1 + s0 + 32 * k + lane()] : 0;
			}
			s.take(y, s0);
			foresee(s, w, y, s0);
			choose(c, f, y, r0, s0, scale, zero);
		}
		s.take(y, s0);
		UNROLL for (int k = 0; k < K; k++) take(s, c, f, y, k, s0, r0, scale, zero, loss, moved);
		s.correct(s0, c.count);
	}
	UNROLL for (int r = 0; r < strip_rows; r++) {
		double l = warp_sum(loss[r]), m = warp_sum(moved[r]);
		if (lane() == 0 && r0 + r < c.out) c.loss[r0 + r] += l, c.moved[r0 + r] += m;
	}
}

// gptq_columns_1, _2 and _4 round columns of groups of 32, 64 and 128, or of grids that are known.
#define GPTQ_COLUMNS(K)                                                                                                                    \
	BOUNDED(gptq_columns_##K, 128, 3)                                                                                                      \
	(float *work, const float *now, const float *corner, const double *root, const int *order, const float *weights, signed char *codes,   \
	 float *scales, signed char *zeros, float *bad, int *flag, double *loss, double *moved, int out, int n, int i1, int count, int width,  \
	 int fixed, int symmetric, int clip, int low, int high, int store, float least, float most) {                                         \
		columns<K>({work, now, corner, root, order, weights, codes, scales, zeros, bad, flag, loss, moved, out, n, i1, count, width, fixed}, \
		           {symmetric, clip, low, high, store, least, most});                                                                      \
	}                                                                                                                                      \
	EXPORT(gptq_columns_##K)
GPTQ_COLUMNS(1)
GPTQ_COLUMNS(2)
GPTQ_COLUMNS(4)
