// The walks of attention statistics: a block takes a lane of a query head, which is every so many tiles of its queries, and adds to
// sums of its own.
#pragma once
#include "attnstats.cuh"

// Shared is the block's shared memory after that of the ring.
template <bool SLOPES>
struct Shared {
	float a[64 * kLine], c[SLOPES ? 64 * kLine : 1];
	float means[64];
	Diagonals diagonals;
};

// lane_tile is the n-th tile of a lane, tiles or more where there is none: lanes take turns in one direction, then in the other, so that all
// have about as much to do.
DEVICE int lane_tile(int n, int which, int lanes) { return n * lanes + (n % 2 ? lanes - 1 - which : which); }

// Walk is what a block works with.
template <int TERMS, bool KEPT, int STAGES, bool SLOPES>
struct Walk {
	using R = Ring<TERMS, 64, KEPT, STAGES, SLOPES ? 2 : 1>;
	R ring;
	Scores s;
	Stats st;
	Mask mask;
	Lines lines;
	long long at; // of the lane's sums
	int q0, t;
	float scale;

	// bring has the tile of keys from j0 on in shared memory.
	DEVICE void bring(int j0, int next) {
		typename R::D x, y;
		if (SLOPES) ring.multiply(x, y, j0, next);
		else ring.multiply(x, x, j0, next);
		scores_store<SLOPES>(s, x, SLOPES ? y : x, lines, mask, q0, j0, scale);
		__syncthreads();
	}

	// settle ends the row's part of near where half of the attention is kept, or no band is left from the distance on.
	DEVICE bool settle(Row &row, int distance) {
		const int i = q0 + threadIdx.x / 4, next = max(distance - 1, 0) / st.width + 1;
		if (row.until == kNone && (row.mass >= 0.5 || next > i / st.width)) row.until = next;
		return __syncthreads_and(i >= t || row.until != kNone);
	}

	// near finds out from which band on at least half of the attention is kept, and adds the effects of the bands before.
	DEVICE void near(Row &row, const Tiles &tiles, float mean) {
		row.mass = row.slope = 0;
		row.until = kNone;
		for (int j0 = 0; j0 < st.sink && j0 < q0 + 64; j0 += 64) {
			if (mask_hides(mask, q0, min(q0 + 64, t), j0, j0 + 64)) continue;
			bring(j0, -1);
			row_sinks(row, s, st, j0);
			__syncthreads();
		}
		if (settle(row, 0)) return;
		for (int n = q0 / 64; n >= 0; n--) {
			const bool seen = n < tiles.head || n >= tiles.head + tiles.gap, more = n > 0 && (n - 1 < tiles.head || n - 1 >= tiles.head + tiles.gap);
			if (seen) bring(n * 64, more ? n * 64 - 64 : -1);
			row_near(row, s, st, q0, n * 64, t, mean, seen);
			const bool stop = settle(row, q0 + threadIdx.x / 4 - n * 64 + 1);
			add_effects(s, st, at, q0, n * 64);
			__syncthreads();
			if (stop) return;
		}
	}

	// far adds what is summed over all distances, and the effects of the bands from row.until on.
	DEVICE void far(Row &row, const Tiles &tiles, const Shared<SLOPES> *shared, Diagonals &d) {
		const bool effects = SLOPES && (st.drop || st.magnitude), sums = !SLOPES || st.bands || st.influence;
		const bool gap = effects && mask.sink > st.sink; // keys of the sink of the mask are dropped, so bands in the gap have an effect
		const int i = q0 + threadIdx.x / 4;
		row.mass = row.slope = 0;
		for (int n = 0; n <= q0 / 64; n++) {
			const int j0 = n * 64;
			const bool seen = n < tiles.head || n >= tiles.head + tiles.gap;
			if (!seen && !gap) {
				n = tiles.head + tiles.gap - 1;
				continue;
			}
			if (!sums && !__syncthreads_or(row.until != kNone && i - j0 >= row.until * st.width)) return;
			int next = n + 1;
			if (next >= tiles.head && next < tiles.head + tiles.gap) next = gap ? -1 : tiles.head + tiles.gap;
			if (seen) bring(j0, next >= 0 && next <= q0 / 64 ? next * 64 : -1);
			if (seen && sums) {
				diagonals<SLOPES>(d, s, st, shared->means, q0, j0, mask.recent == 1 && mask.sink == 0);
				__syncthreads();
				add_diagonals<SLOPES>(d, st, at, q0, j0);
			}
			if (effects) {
				row_far(row, s, st, q0, j0, seen);
				__syncthreads();
				add_effects(s, st, at, q0, j0);
				if (!seen || next < 0) __syncthreads(); // else in bring
			}
		}
	}
};

// statistics adds to st what is asked for, over the tiles of a lane of a query head. Blocks: heads*lanes, numbered by KV heads, then lanes,
// then query heads, so that blocks that run at once read the same keys. mean is [heads, t] where slopes are.
template <int TERMS, bool KEPT, int STAGES, bool SLOPES>
DEVICE void statistics(const Stats &st, const uint16_t *q, const uint16_t *k, const uint16_t *dout, const uint16_t *v, const float *lse, const float *mean, const int *masks, int heads, int group, int lanes, int t, int tp, int panels, float scale) {
	const int g = blockIdx.x / (group * lanes), h = g * group + blockIdx.x % group, which = blockIdx.x / group % lanes;
	const long long size = (long long)tp * panels * kPanel, of_query = heads * size, of_key = heads / group * size;
	const Rows queries = {q + h * size, of_query, panels, tp}, keys = {k + g * size, of_key, panels, tp};
	const Rows grads = {SLOPES ? dout + h * size : nullptr, of_query, panels, tp}, values = {SLOPES ? v + g * size : nullptr, of_key, panels, tp};
	Walk<TERMS, KEPT, STAGES, SLOPES> w;
	char *base = dynamic_shared();
	w.ring.begin(base, queries, keys, grads, values);
	Shared<SLOPES> *shared = (Shared<SLOPES> *)(base + ring_bytes<typename Walk<TERMS, KEPT, STAGES, SLOPES>::R>(w.ring.steps));
	w.s = {shared->a, shared->c};
	w.st = st;
	w.mask = mask_of(masks, g);
	w.at = ((long long)h * lanes + which) * st.number;
	w.t = t;
	w.scale = scale;
	const int tiles = (t + 63) / 64;
	for (int n = 0; lane_tile(n, which, lanes) < tiles || n * lanes < tiles; n++) {
		const int tile = lane_tile(n, which, lanes);
		if (tile >= tiles) continue;
		w.q0 = tile * 64;
		w.lines = lines_of(lse + (long long)h * t, SLOPES ? mean + (long long)h * t : nullptr, w.q0, t);
		w.ring.rows(w.q0);
		if (SLOPES && threadIdx.x < 64) shared->means[threadIdx.x] = w.q0 + threadIdx.x < t ? mean[(long long)h * t + w.q0 + threadIdx.x] : 0;
		__syncthreads();
		const Tiles seen = key_tiles(w.mask, w.q0, min(w.q0 + 64, t), 64);
		Row row;
		row.until = kNone;
		if (SLOPES && (st.drop || st.magnitude)) w.near(row, seen, shared->means[threadIdx.x / 4]);
		w.far(row, seen, shared, shared->diagonals);
	}
}
