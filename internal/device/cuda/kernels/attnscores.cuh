// A tile of attention in shared memory, 64 queries by 64 keys, for what is read from it in other orders than that of tensor cores.
#pragma once
#include "mask.cuh"
#include "panel.cuh"

static constexpr int kLine = 68; // floats from row to row: eight rows begin in different banks

// Scores is where a block writes the tile: attention, and the slopes centred on their mean, G-g, where they are asked for.
struct Scores {
	float *a, *c;
};

// Lines is what a lane knows of its two rows: the log of the sum of exponentials in powers of two, and the mean of slopes.
struct Lines {
	float log[2], mean[2];
};

// lines_of reads them for the queries from q0 on; the attention of queries from end on becomes zero.
DEVICE Lines lines_of(const float *lse, const float *mean, int q0, int end) {
	Lines l;
	UNROLL for (int r = 0; r < 2; r++) {
		const int i = q0 + warp() % 4 * 16 + r * 8 + lane() / 4;
		l.log[r] = i < end ? lse[i] * 1.44269504f : INFINITY;
		l.mean[r] = mean && i < end ? mean[i] : 0;
	}
	return l;
}

// scores_store writes the lane's part of the tile of queries from q0 and keys from j0 on, zeros where the mask hides.
template <bool SLOPES, class D>
DEVICE void scores_store(const Scores &to, const D &s, const D &g, const Lines &l, Mask mask, int q0, int j0, float scale) {
	const int row = warp() % 4 * 16 + lane() / 4, column = warp() / 4 * 32 + lane() % 4 * 2;
	const bool all = mask_shows(mask, q0, q0 + 64, j0, j0 + 64);
	UNROLL for (int r = 0; r < 2; r++) UNROLL for (int n = 0; n < 4; n++) {
		const int at = (row + r * 8) * kLine + column + n * 8, i = q0 + row + r * 8, j = j0 + column + n * 8;
		float p[2], c[2];
		UNROLL for (int e = 0; e < 2; e++) {
			p[e] = exp2_fast(fmaf(s.high[0][n][2 * r + e], scale, -l.log[r]));
			c[e] = SLOPES ? g.high[0][n][2 * r + e] - l.mean[r] : 0;
			if (!all && !mask_sees(mask, i, j + e)) p[e] = c[e] = 0;
		}
		to.a[at] = p[0], to.a[at + 1] = p[1];
		if (SLOPES) to.c[at] = c[0], to.c[at + 1] = c[1];
	}
}
