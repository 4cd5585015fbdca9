// The softmax of a row of scores that a block takes, in one look: every thread keeps the largest value that it has seen and the sum of the
// exponentials past it, and the threads join. Exponentials are in f32, sums in float64.
#pragma once
#include "team.cuh"

// Soft is the softmax of scores that are multiplied by scale: probability i is e^(scale*(x[i]-top))/sum.
struct Soft {
	float top;
	double sum;

	DEVICE double log_at(float x, float scale) const { return ((double)x - top) * scale - log(sum); }
};

// past is e^(scale*(x-top)), 0 for -Inf whatever top is.
DEVICE float past(float x, float top, float scale) { return x == -INFINITY ? 0 : expf((x - top) * scale); }

// Seen is what a thread has seen of a row: its softmax at two scales, and where the first of the largest values stands.
struct Seen {
	float top;
	double sum, plain;
	int at;
};

// scores4 is load4 with -Inf beyond the end.
DEVICE float4 scores4(const float *x, int c, int n, bool wide) {
	float4 v = load4(x, c, n, wide);
	if (c + 1 >= n) v.y = -INFINITY;
	if (c + 2 >= n) v.z = -INFINITY;
	if (c + 3 >= n) v.w = -INFINITY;
	return v;
}

// see takes four values into account. plain is the sum at scale 1, which is only kept where both is set.
DEVICE void see(Seen &s, float4 v, int c, float scale, bool both) {
	float top = fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w));
	if (top > s.top) {
		s.sum *= past(s.top, top, scale);
		if (both) s.plain *= past(s.top, top, 1);
		s.top = top;
		s.at = v.x == top ? c : v.y == top ? c + 1 : v.z == top ? c + 2 : c + 3;
	}
	s.sum += (double)past(v.x, s.top, scale) + past(v.y, s.top, scale) + past(v.z, s.top, scale) + past(v.w, s.top, scale);
	if (both) s.plain += (double)past(v.x, s.top, 1) + past(v.y, s.top, 1) + past(v.z, s.top, 1) + past(v.w, s.top, 1);
}

// SoftShared is the shared memory of a block for this.
struct SoftShared {
	double part[ROW_THREADS / 32];
	float top[ROW_THREADS / 32];
	int at[ROW_THREADS / 32];
};

DEVICE int warp_min(int x) {
	for (int d = 16; d > 0; d /= 2) {
		int y = __shfl_xor_sync(0xffffffffu, x, d);
		x = y < x ? y : x;
	}
	return x;
}

// join makes what all threads of a block have seen out of what each has. A value that is not a number makes the sum none.
DEVICE Seen join(Seen s, SoftShared &shared, float scale, bool both) {
	Team<ROW_THREADS> team{shared.part};
	float top = warp_max(s.top);
	if (lane() == 0) shared.top[warp()] = top;
	__syncthreads();
	for (int w = 0; w < ROW_THREADS / 32; w++) top = fmaxf(top, shared.top[w]);
	int at = warp_min(s.top == top ? s.at : 0x7fffffff);
	if (lane() == 0) shared.at[warp()] = at;
	__syncthreads();
	for (int w = 0; w < ROW_THREADS / 32; w++) at = shared.at[w] < at ? shared.at[w] : at;
	Seen all = {top, team.sum(s.sum * past(s.top, top, scale)), 0, at == 0x7fffffff ? 0 : at};
	if (both) all.plain = team.sum(s.plain * past(s.top, top, 1));
	return all;
}

// soften looks at a row of n values.
DEVICE Seen soften(const float *x, int n, bool wide, SoftShared &shared, float scale, bool both) {
	Seen s = {-INFINITY, 0, 0, 0x7fffffff};
	for (int c = 4 * threadIdx.x; c < n; c += 4 * ROW_THREADS) see(s, scores4(x, c, n, wide), c, scale, both);
	return join(s, shared, scale, both);
}

// rest_of is e^-d - 1 + d for |d| < 1/4, by its series.
DEVICE double rest_of(double d) {
	double s = 1.0 / 40320;
	s = s * d - 1.0 / 5040;
	s = s * d + 1.0 / 720;
	s = s * d - 1.0 / 120;
	s = s * d + 1.0 / 24;
	s = s * d - 1.0 / 6;
	s = s * d + 0.5;
	return s * d * d;
}
