// Making matrices sparse column by column, with what is lost in each column made good by the ones after it (SparseGPT, arXiv:2301.00774), as
// package sparse does. Matrices are [out, n], row after row.
#include "strip.cuh"

// Pruned is what the pruning of count columns from i1 on works with; see Columns in gptq.cu. Blocks are width columns wide in memory.
struct Pruned {
	float *work;
	const float *now;    // [out, width]
	const float *corner; // [width, width]
	const double *root;
	const float *size;         // by column: what |w| is multiplied by for its score
	const unsigned char *dead; // by column
	unsigned *keys;            // [out, count]: scores, then 1 for weights that go
	void *q;                   // [out, n] of kind store, the result
	double *loss, *moved;
	int out, n, i1, count, width;
	int store, stay, group; // of every group weights stay; group is 0 where keys say what goes
};

// score orders scores: of two that are not negative, the smaller one has the smaller key.
DEVICE unsigned score(float x) { return float_bits(x) & 0x7fffffff; }

DEVICE float weight_at(const Pruned &p, long long row, int at) { return row < p.out && at < p.count ? p.work[row * p.n + p.i1 + at] : 0; }

// rate sets the scores of all columns of the block, from the weights that would be best if all of them stayed.
DEVICE void rate(const Pruned &p) {
	Strip<4> s(p.corner, p.width);
	long long r0 = ((long long)blockIdx.x * strip_warps + warp()) * strip_rows;
	s.load(p.now, r0, p.out, p.count);
	for (int at = lane(); at < p.width; at += 32) {
		UNROLL for (int r = 0; r < strip_rows; r++) s.y[r * p.width + at] -= weight_at(p, r0 + r, at);
	}
	for (int s0 = 0; s0 < p.count; s0 += 128) {
		Lanes<4> x;
		s.take(x, s0);
		UNROLL for (int k = 0; k < 4; k++) {
			s.stage(s0, k);
			for (int l = 0; l < 32; l++) {
				UNROLL for (int r = 0; r < strip_rows; r++) {
					float e = -__shfl_sync(0xffffffffu, x[r][k], l);
					UNROLL for (int m = k; m < 4; m++) x[r][m] += mul(s.a[l][32 * m + lane()], e);
				}
			}
			int at = s0 + 32 * k + lane();
			float e[strip_rows];
			UNROLL for (int r = 0; r < strip_rows; r++) {
				e[r] = -x[r][k];
				if (at < p.count && r0 + r < p.out)
					p.keys[(r0 + r) * p.count + at] = score(mul(x[r][k] + weight_at(p, r0 + r, at), p.size[p.i1 + at]));
			}
			s.keep(e, k);
		}
		s.correct(s0, p.count);
	}
}

// choose marks what goes of the group of columns of 32 that begins at lane l: those with the lowest scores, of equal ones the first.
DEVICE void choose(const Strip<4> &s, const Pruned &p, const Lanes<4> &y, const float (&w)[strip_rows], float size, int k, int l, bool (&goes)[strip_rows]) {
	float x[strip_rows];
	UNROLL for (int r = 0; r < strip_rows; r++) x[r] = y[r][k] - w[r];
	for (int j = 0; j < p.group; j++) {
		UNROLL for (int r = 0; r < strip_rows; r++) x[r] += mul(s.a[l + j][32 * k + lane()], -__shfl_sync(0xffffffffu, x[r], l + j));
	}
	UNROLL for (int r = 0; r < strip_rows; r++) {
		unsigned mine = score(mul(x[r] + w[r], size));
		int before = 0;
		for (int j = 0; j < p.group; j++) {
			unsigned other = __shfl_sync(0xffffffffu, mine, l + j);
			before += other < mine || (other == mine && l + j < lane());
		}
		if (lane() >= l && lane() < l + p.group) goes[r] = before < p.group - p.stay;
	}
}

// kept is what becomes of a weight w that is best replaced for y.
DEVICE float kept(const Pruned &p, float w, float y, bool goes) {
	float q = goes ? 0 : rounded(y, p.store);
	return q == w ? w : q; // a zero keeps its sign
}

// take prunes the 32 columns that stand at k in registers, and corrects the ones after them in registers.
DEVICE void take(Strip<4> &s, const Pruned &p, Lanes<4> &y, int k, int s0, long long r0, double (&loss)[strip_rows], double (&moved)[strip_rows]) {
	int at = s0 + 32 * k + lane(), column = p.i1 + at;
	bool inside = at < p.count, dead = !inside || p.dead[column];
	float w[strip_rows], e[strip_rows];
	bool goes[strip_rows];
	UNROLL for (int r = 0; r < strip_rows; r++) {
		w[r] = weight_at(p, r0 + r, at);
		goes[r] = !p.group && inside && r0 + r < p.out && p.keys[(r0 + r) * p.count + at];
	}
	s.stage(s0, k);
	for (int l = 0; l < 32; l++) {
		if (p.group && l % p.group == 0) choose(s, p, y, w, inside ? p.size[column] : 0, k, l, goes);
		UNROLL for (int r = 0; r < strip_rows; r++) {
			float x = __shfl_sync(0xffffffffu, dead ? 0 : w[r] - kept(p, w[r], y[r][k], goes[r]), l);
			UNROLL for (int m = k; m < 4; m++) y[r][m] += mul(s.a[l][32 * m + lane()], x);
		}
	}
	double d = inside ? p.root[column] : 0;
	UNROLL for (int r = 0; r < strip_rows; r++) {
		long long row = r0 + r;
		float q = kept(p, w[r], y[r][k], goes[r]);
		e[r] = dead ? 0 : w[r] - q;
		if (!inside || row >= p.out) continue;
		if (p.store == KIND_BF16)
			((uint16_t *)p.q)[row * p.n + column] = bf16_from(q);
		else if (p.store == KIND_F16)
			((uint16_t *)p.q)[row * p.n + column] = f16_from(q);
		else
			((float *)p.q)[row * p.n + column] = q;
		p.work[row * p.n + column] = e[r];
		if (dead) continue;
		double left = mul((double)(y[r][k] - q), d), way = e[r];
		loss[r] += mul(left, left);
		moved[r] += mul(way, way);
	}
	s.keep(e, k);
}

DEVICE void prune(const Pruned &p) {
	Strip<4> s(p.corner, p.width);
	long long r0 = ((long long)blockIdx.x * strip_warps + warp()) * strip_rows;
	s.load(p.now, r0, p.out, p.count);
	double loss[strip_rows] = {}, moved[strip_rows] = {};
	for (int s0 = 0; s0 < p.count; s0 += 128) {
		Lanes<4> y;
		s.take(y, s0);
		UNROLL for (int k = 0; k < 4; k++) take(s, p, y, k, s0, r0, loss, moved);
		s.correct(s0, p.count);
	}
	UNROLL for (int r = 0; r < strip_rows; r++) {
		double l = warp_sum(loss[r]), m = warp_sum(moved[r]);
		if (lane() == 0 && r0 + r < p.out) p.loss[r0 + r] += l, p.moved[r0 + r] += m;
	}
}

#define PRUNED                                                                                                                              \
	float *work, const float *now, const float *corner, const double *root, const float *size, const unsigned char *dead, unsigned *keys,   \
	    void *q, double *loss, double *moved, int out, int n, int i1, int count, int width, int store, int stay, int group

// sparse_rate and sparse_prune are rate and prune for a block of threads, 16 rows.
BOUNDED(sparse_rate, 128, 2)(PRUNED) {
	rate({work, now, corner, root, size, dead, keys, q, loss, moved, out, n, i1, count, width, store, stay, group});
}
EXPORT(sparse_rate)
BOUNDED(sparse_prune, 128, 2)(PRUNED) {
	prune({work, now, corner, root, size, dead, keys, q, loss, moved, out, n, i1, count, width, store, stay, group});
}
EXPORT(sparse_prune)
