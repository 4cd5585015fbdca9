// The grids that groups of weights are rounded to, and the search for the best one, by a warp: what package quantize does, operation
// by operation, so that the same weights get the same grid.
#pragma once
#include "exact.cuh"

// Grid is the values r*scale for whole numbers r in [lo, hi]; inv is 1/scale. The code of r is r+zero.
struct Grid {
	float scale, inv, lo, hi;
	int zero;
};

// Finder says how grids are chosen: scales are held in the stored type, at least least in size, with values of at most most; codes are
// from low to high.
struct Finder {
	int symmetric, clip, low, high, store;
	float least, most;
};

DEVICE Grid grid_of(const Finder &f, float scale, int zero) {
	return {scale, 1 / scale, (float)(f.low - zero), (float)(f.high - zero), zero};
}

// steps is the r whose value is nearest to w, ties to even: no fraction is left of a small number to which 1.5 * 2^23 is added.
DEVICE float steps(const Grid &g, float w) {
	const float magic = 12582912;
	float x = fminf(fmaxf(mul(w, g.inv), g.lo), g.hi);
	return (x + magic) - magic;
}

// Row is the values of a group in memory: value(k) of a lane is element 32k+lane, 0 where there is none, weight(k) what its error
// counts.
struct Row {
	const float *values, *weights;
	int n;
	DEVICE int count() const { return (n + 31) / 32; }
	DEVICE float value(int k) const { return 32 * k + lane() < n ? values[32 * k + lane()] : 0; }
	DEVICE float weight(int k) const { return !weights || 32 * k + lane() >= n ? 1 : weights[32 * k + lane()]; }
};

// Held is a group of 32*K values in registers.
template <int K>
struct Held {
	float values[K], weights[K];
	DEVICE int count() const { return K; }
	DEVICE float value(int k) const { return values[k]; }
	DEVICE float weight(int k) const { return weights[k]; }
};

// cost is Σ weight * |w-value(w)|^2.5, in the partial sums of num.RoundingCost: element i joins sum i%32, and the sums are added in pairs
// at distance 16, 8, 4, 2, 1.
template <class Values>
DEVICE float cost(const Grid &g, const Values &v) {
	float sum = 0;
	UNROLL for (int k = 0; k < v.count(); k++) {
		float w = v.value(k), d = w - mul(steps(g, w), g.scale);
		sum += mul(mul(mul(d, d), sqrtf(fabsf(d))), v.weight(k));
	}
	return warp_sum(sum);
}

// refit is the scale of least squares where the steps stay as they are, 0 where all of them are 0. The sums are in the order of the
// elements.
template <class Values>
DEVICE float refit(const Grid &g, const Values &v) {
	double a = 0, b = 0;
	UNROLL for (int k = 0; k < v.count(); k++) {
		float w = v.value(k), h = v.weight(k);
		double r = steps(g, w), x = mul(mul((double)w, r), (double)h), y = mul(mul(r, r), (double)h);
		for (int l = 0; l < 32; l++) {
			a += __shfl_sync(0xffffffffu, x, l);
			b += __shfl_sync(0xffffffffu, y, l);
		}
	}
	return b > 0 ? (float)(a / b) : 0;
}

// Search is the best grid so far for the values of a group.
template <class Values>
struct Search {
	const Finder &f;
	const Values &v;
	Grid best;
	float least_cost, lo, hi; // the range of the values, widened to hold 0

	DEVICE Search(const Finder &f, const Values &v) : f(f), v(v), best{0, 0, 0, 0, 0}, least_cost(INFINITY), lo(0), hi(0) {
		UNROLL for (int k = 0; k < v.count(); k++) lo = fminf(lo, v.value(k)), hi = fmaxf(hi, v.value(k));
		lo = -warp_max(-lo), hi = warp_max(hi);
	}

	DEVICE float held(float scale) const { return fmaxf(rounded(scale, f.store), f.least); }

	// attempt keeps the grid of a scale and zero point if it costs less than the best so far, and the first one whatever it costs.
	DEVICE bool attempt(float scale, int zero) {
		Grid g = grid_of(f, held(scale), zero);
		float c = cost(g, v);
		if (!(c < least_cost || best.scale == 0)) return false;
		best = g, least_cost = c;
		return true;
	}

	// share attempts the grid for a share p of the range.
	DEVICE bool share(float p) {
		if (f.symmetric) return attempt(mul(fmaxf(-lo, hi) / (float)f.high, p), 0);
		float scale = held(mul(mul((hi / 2 - lo / 2) / (float)(f.high - f.low), 2), p));
		double zero = rint((double)f.low - mul((double)lo, (double)p) / (double)scale);
		return attempt(scale, (int)fmin(fmax(zero, (double)f.low), (double)f.high));
	}

	// shrink attempts shares of the range in coarse steps, then around the best in fine ones, then the scales of least squares.
	DEVICE void shrink() {
		float top = 1;
		for (int i = 1; i <= 20; i++) {
			float p = 1 - mul(0.04f, (float)i);
			if (share(p)) top = p;
		}
		float centre = top;
		for (int i = -3; i <= 3; i++) {
			float p = centre + mul(0.01f, (float)i);
			if (i != 0 && p <= 1) share(p);
		}
		for (int i = 0; i < 2; i++) {
			float scale = refit(best, v);
			if (scale > 0) attempt(scale, best.zero);
		}
	}

	// within makes the scale smaller where the outermost value would be infinite in the stored type.
	DEVICE void within() {
		float limit = f.most / fmaxf(-best.lo, best.hi);
		if (best.scale <= limit) return;
		float scale = rounded(limit, f.store);
		for (float share = 0.99f; scale > limit; share -= 0.01f) scale = rounded(mul(limit, share), f.store);
		best = grid_of(f, scale, best.zero);
	}

	// run finds the grid. It reports false where the stored type does not hold its scale; the grid is that of scale 1 then.
	DEVICE bool run() {
		if (lo == 0 && hi == 0) {
			best = grid_of(f, 1, 0);
			return true;
		}
		if (f.symmetric) {
			float a = fmaxf(-lo, hi), q = f.high;
			attempt(a / q, 0);
			attempt(a / (q + 0.5f), 0);
			attempt(a / (q + 1), 0);
		} else {
			share(1);
		}
		if (f.clip) shrink();
		if (best.scale == INFINITY || best.scale == 0) {
			best = grid_of(f, 1, 0);
			return false;
		}
		within();
		return true;
	}
};
