// RMSNorm (Zhang and Sennrich, arXiv:1910.07467) and LayerNorm (Ba et al., arXiv:1607.06450) over rows. Each kernel is there for rows
// that a warp takes, and for those of a block. 8 bytes are moved for each value: a row comes from the cache after the first look.
#include "norm.cuh"

template <int SIZE>
DEVICE void rms_norm_rows(double *part, float *y, const float *x, const float *w, long long rows, int d, float over, float eps) {
	Team<SIZE> team{part};
	bool wide = wide4(d, y) && aligned(x) && aligned(w);
	for (long long i = team.first(); i < rows; i += team.step()) {
		const float *in = x + i * d;
		float inv = (float)rms_moments(team, in, d, wide, over, eps).r;
		for (int c = 4 * team.member(); c < d; c += 4 * SIZE) {
			float4 v = load4(in, c, d, wide), g = load4(w, c, d, wide);
			store4(y + i * d, c, d, wide, each4(v, g, [=](float v, float g) { return v * inv * g; }));
		}
	}
}

KERNEL(rms_norm_warp)(float *y, const float *x, const float *w, long long rows, int d, float over, float eps) {
	rms_norm_rows<32>(0, y, x, w, rows, d, over, eps);
}
EXPORT(rms_norm_warp)

KERNEL(rms_norm_block)(float *y, const float *x, const float *w, long long rows, int d, float over, float eps) {
	SHARED double part[ROW_THREADS / 32];
	rms_norm_rows<ROW_THREADS>(part, y, x, w, rows, d, over, eps);
}
EXPORT(rms_norm_block)

template <int SIZE>
DEVICE void layer_norm_rows(double *part, float *y, const float *x, const float *w, const float *b, long long rows, int d, float over, float eps) {
	Team<SIZE> team{part};
	bool wide = wide4(d, y) && aligned(x) && aligned(w) && aligned(b);
	for (long long i = team.first(); i < rows; i += team.step()) {
		const float *in = x + i * d;
		Moments m = layer_moments(team, in, d, wide, over, eps);
		float inv = (float)m.r;
		for (int c = 4 * team.member(); c < d; c += 4 * SIZE) {
			float4 v = load4(in, c, d, wide), g = load4(w, c, d, wide), s = load4(b, c, d, wide);
			store4(y + i * d, c, d, wide, each4(v, g, s, [=](float v, float g, float s) { return (float)(v - m.mean) * inv * g + s; }));
		}
	}
}

KERNEL(layer_norm_warp)(float *y, const float *x, const float *w, const float *b, long long rows, int d, float over, float eps) {
	layer_norm_rows<32>(0, y, x, w, b, rows, d, over, eps);
}
EXPORT(layer_norm_warp)

KERNEL(layer_norm_block)(float *y, const float *x, const float *w, const float *b, long long rows, int d, float over, float eps) {
	SHARED double part[ROW_THREADS / 32];
	layer_norm_rows<ROW_THREADS>(part, y, x, w, b, rows, d, over, eps);
}
EXPORT(layer_norm_block)
