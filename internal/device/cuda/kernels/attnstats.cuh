// Sums over attention by the distance of keys: bands, influence, and what dropping distant keys does.
#pragma once
#include "attnscores.cuh"

// Stats is what is summed up, by band of `width` distances; pointers that are null are not asked for. Each has a row of `bands` sums for
// every query head and lane.
struct Stats {
	double *bands, *influence, *drop, *magnitude;
	int width, number, sink;
};

// Row is what a thread keeps of the row that it shares with three others, thread/4, while tiles pass by.
struct Row {
	double mass, slope; // ΣA and ΣA*(G-g) of what was passed
	int until;          // the first band from which at least half of the attention is kept; none: 2^30
};
static constexpr int kNone = 1 << 30;

// quad_add adds over the four threads of a row.
DEVICE void quad_add(float &x) {
	x += __shfl_xor_sync(0xffffffffu, x, 1);
	x += __shfl_xor_sync(0xffffffffu, x, 2);
}

// row_part sums A and A*(G-g) of the columns [from, to] of a row, a quarter by each thread, and adds them to the row's.
DEVICE void row_part(Row &row, const Scores &s, int from, int to) {
	const int line = threadIdx.x / 4 * kLine, part = threadIdx.x % 4;
	float mass = 0, slope = 0;
	for (int x = from + ((part - from) & 3); x <= to; x += 4) {
		const float p = s.a[line + x];
		mass += p;
		slope = fmaf(p, s.c[line + x], slope);
	}
	quad_add(mass);
	quad_add(slope);
	row.mass += mass;
	row.slope += slope;
}

// Walks over the bands of a tile, row by row. Where the nearest key of a band lies in the tile, the effect on the loss of keeping the sinks
// and the bands before it only is written in place of that key's attention: over all keys A*(G-g) sums to zero, so that the sum over
// what is kept is the negative of that over what is dropped, and the smaller one is taken. Without `seen` the mask hides the whole tile.
//
// row_near walks away from the diagonal. row has the sums of what is kept, sinks included, and gives effects while that is less than half.
DEVICE void row_near(Row &row, const Scores &s, const Stats &st, int q0, int j0, int t, float mean, bool seen) {
	const int i = q0 + threadIdx.x / 4, far = i - j0, first = max(far - 63, 0) / st.width;
	for (int n = 0; n < 63 / st.width + 2; n++) {
		const int b = first + n, near = far - b * st.width;
		const bool edge = b > 0 && near >= 0 && near < 64;
		float effect = 0;
		if (edge && i < t && row.until == kNone) {
			if (row.mass >= 0.5) row.until = b;
			else effect = row.mass > 0 ? (float)(row.slope / row.mass) : -mean;
		}
		if (seen) row_part(row, s, max(max(near - st.width + 1, 0), st.sink - j0), min(near, 63));
		__syncwarp(); // others of the row read what is written over
		if (edge && threadIdx.x % 4 == 0) s.a[threadIdx.x / 4 * kLine + near] = effect;
	}
}

// row_far walks towards the diagonal. row has the sums of what is dropped, and gives the effects that row_near did not.
DEVICE void row_far(Row &row, const Scores &s, const Stats &st, int q0, int j0, bool seen) {
	const int far = q0 + threadIdx.x / 4 - j0, last = far / st.width;
	for (int n = 0; n < 63 / st.width + 2; n++) {
		const int b = last - n, near = far - b * st.width;
		if (seen) row_part(row, s, b < 0 ? 64 : max(max(near - st.width + 1, 0), st.sink - j0), min(near, 63));
		__syncwarp();
		if (b > 0 && near < 64 && threadIdx.x % 4 == 0) s.a[threadIdx.x / 4 * kLine + near] = b >= row.until ? (float)(-row.slope / (1 - row.mass)) : 0;
	}
}

// row_sinks adds the keys before the sink of st to the row.
DEVICE void row_sinks(Row &row, const Scores &s, const Stats &st, int j0) { row_part(row, s, 0, min(st.sink - j0, 64) - 1); }

// add_effects adds up what row_near or row_far wrote, band by band.
DEVICE void add_effects(const Scores &s, const Stats &st, long long at, int q0, int j0) {
	const int base = q0 - j0, first = max((base - 63 + st.width - 1) / st.width, 1);
	for (int b = first + warp(); b < st.number && b * st.width <= base + 63; b += 8) {
		// What was summed so far is on its way while this is added up.
		const double sum0 = lane() == 0 && st.drop ? st.drop[at + b] : 0, size0 = lane() == 0 && st.magnitude ? st.magnitude[at + b] : 0;
		double sum = 0, size = 0;
		UNROLL for (int half = 0; half < 2; half++) {
			const int r = half * 32 + lane(), x = base + r - b * st.width;
			if (x >= 0 && x < 64) {
				const float e = s.a[r * kLine + x];
				sum += e;
				size += fabsf(e);
			}
		}
		if (st.drop) sum = warp_sum(sum);
		if (st.magnitude) size = warp_sum(size);
		if (lane() == 0 && st.drop) st.drop[at + b] = sum0 + sum;
		if (lane() == 0 && st.magnitude) st.magnitude[at + b] = size0 + size;
	}
}

// Diagonals is what a tile gives by distance. With d the number of a column, part q has the keys (r+d)%64 of the rows r of quarter q: those
// of r+d < 64 lie d nearer to the end of the tile than the query, the others 64-d the other way.
struct Diagonals {
	float sum[2][2][4][64]; // [bands, influence][near, far][quarter][d]
};

// influence_of is |A/(1-A)*(G-g)|, to two units of the last place, where 1-A counts as at least 2^-20; for a query with a single key A*|G|.
DEVICE float influence_of(float a, float c, float mean, bool single) {
	return single ? a * fabsf(c + mean) : __fdividef(a * fabsf(c), fmaxf(1 - a, 0x1p-20f));
}

// diagonals sums the tile along its diagonals, without the keys before the sink. means holds the mean of slopes of each row, and lone says
// that all rows have a single key.
template <bool SLOPES>
DEVICE void diagonals(Diagonals &d, const Scores &s, const Stats &st, const float *means, int q0, int j0, bool lone) {
	const int at = threadIdx.x % 64, quarter = threadIdx.x / 64;
	float mass[2] = {0, 0}, weight[2] = {0, 0};
	UNROLL for (int n = 0; n < 16; n++) {
		const int r = quarter * 16 + n, x = (r + at) % 64, side = r + at < 64 ? 0 : 1;
		if (j0 + x < st.sink) continue;
		const float a = s.a[r * kLine + x];
		if (side == 0) mass[0] += a;
		else mass[1] += a;
		if (SLOPES && st.influence) {
			const float e = influence_of(a, s.c[r * kLine + x], means[r], lone || q0 + r == 0);
			if (side == 0) weight[0] += e;
			else weight[1] += e;
		}
	}
	UNROLL for (int side = 0; side < 2; side++) {
		d.sum[0][side][quarter][at] = mass[side];
		if (SLOPES) d.sum[1][side][quarter][at] = weight[side];
	}
}

// add_diagonals adds the sums of the distances of a tile to their bands; a warp takes a band at a time.
template <bool SLOPES>
DEVICE void add_diagonals(const Diagonals &d, const Stats &st, long long at, int q0, int j0) {
	// The last tile has rows beyond the end, whose distances have no band.
	const int base = q0 - j0, first = max(base - 63, 0), last = min(base + 63, st.number * st.width - 1), bands = last / st.width - first / st.width + 1;
	const int kinds = SLOPES ? (st.bands ? 1 : 0) + (st.influence ? 1 : 0) : 1;
	for (int n = warp(); n < kinds * bands; n += 8) {
		const int kind = SLOPES && (!st.bands || n >= bands) ? 1 : 0, b = first / st.width + (n < bands ? n : n - bands);
		double *to = (kind ? st.influence : st.bands) + at + b;
		const double old = lane() == 0 ? *to : 0;
		double sum = 0;
		for (int x = max(first, b * st.width) + lane(); x <= min(last, b * st.width + st.width - 1); x += 32) {
			const int side = x > base ? 1 : 0, column = base - x + side * 64;
			UNROLL for (int q = 0; q < 4; q++) sum += d.sum[kind][side][q][column];
		}
		sum = warp_sum(sum);
		if (lane() == 0) *to = old + sum;
	}
}
