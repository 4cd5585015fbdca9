// What the norms of a row need: its root mean square, or mean and variance. Sums are in float64: a value is read once or twice and
// costs a few operations, which hide behind its memory on the chips that this is for.
#pragma once
#include "team.cuh"

// Moments of a row: x is normalized to (x-mean)*r.
struct Moments {
	double mean, r;
};

// variance is the sum sq of (x-mean)² over all of d channels, over the number over of those that no mask makes zero, each of the
// others of which is in it with mean².
DEVICE double variance(double sq, double mean, int d, float over) {
	return fmax(0.0, sq - ((double)d - (double)over) * mean * mean) / over;
}

// rms_moments: mean 0 and r = 1/sqrt(Σx²/over+eps).
template <int SIZE>
DEVICE Moments rms_moments(const Team<SIZE> &team, const float *x, int d, bool wide, float over, float eps) {
	double sq = 0;
	for (int c = 4 * team.member(); c < d; c += 4 * SIZE) {
		float4 v = load4(x, c, d, wide);
		sq += dot4(v, v);
	}
	sq = team.sum(sq);
	return Moments{0, 1 / sqrt(sq / over + eps)};
}

// layer_moments: mean = Σx/over and r = 1/sqrt(var+eps), from a second look at the row.
template <int SIZE>
DEVICE Moments layer_moments(const Team<SIZE> &team, const float *x, int d, bool wide, float over, float eps) {
	double sum = 0, sq = 0;
	for (int c = 4 * team.member(); c < d; c += 4 * SIZE) sum += total4(load4(x, c, d, wide));
	double mean = team.sum(sum) / over;
	for (int c = 4 * team.member(); c < d; c += 4 * SIZE) {
		float4 v = load4(x, c, d, wide);
		double a = v.x - mean, b = v.y - mean, e = v.z - mean, f = v.w - mean;
		sq += a * a;
		if (c + 1 < d) sq += b * b;
		if (c + 2 < d) sq += e * e;
		if (c + 3 < d) sq += f * f;
	}
	return Moments{mean, 1 / sqrt(variance(team.sum(sq), mean, d, over) + eps)};
}
