// The gradients of norms by their input, in float64 until they are stored. 12 bytes are moved for each value.
#include "norm.cuh"

// gain is the gradient by one of the normalized values: w*dy.
DEVICE double gain(float w, float dy) { return (double)w * dy; }

// rms_norm_back_rows: dx = r*w*dy - x*r³/over*Σ w*dy*x. dx may be dy.
template <int SIZE>
DEVICE void rms_norm_back_rows(double *part, float *dx, const float *dy, const float *x, const float *w, long long rows, int d, float over, float eps) {
	Team<SIZE> team{part};
	bool wide = wide4(d, dx) && aligned(dy) && aligned(x) && aligned(w);
	for (long long i = team.first(); i < rows; i += team.step()) {
		const float *in = x + i * d, *grad = dy + i * d;
		double r = rms_moments(team, in, d, wide, over, eps).r, dot = 0;
		for (int c = 4 * team.member(); c < d; c += 4 * SIZE) {
			float4 v = load4(in, c, d, wide), g = load4(grad, c, d, wide), s = load4(w, c, d, wide);
			dot += gain(s.x, g.x) * v.x + gain(s.y, g.y) * v.y + gain(s.z, g.z) * v.z + gain(s.w, g.w) * v.w;
		}
		double along = r * r * r / over * team.sum(dot);
		for (int c = 4 * team.member(); c < d; c += 4 * SIZE) {
			float4 v = load4(in, c, d, wide), g = load4(grad, c, d, wide), s = load4(w, c, d, wide);
			store4(dx + i * d, c, d, wide, each4(v, g, s, [=](float v, float g, float s) { return (float)(r * gain(s, g) - v * along); }));
		}
	}
}

KERNEL(rms_norm_back_warp)(float *dx, const float *dy, const float *x, const float *w, long long rows, int d, float over, float eps) {
	rms_norm_back_rows<32>(0, dx, dy, x, w, rows, d, over, eps);
}
EXPORT(rms_norm_back_warp)

KERNEL(rms_norm_back_block)(float *dx, const float *dy, const float *x, const float *w, long long rows, int d, float over, float eps) {
	SHARED double part[ROW_THREADS / 32];
	rms_norm_back_rows<ROW_THREADS>(part, dx, dy, x, w, rows, d, over, eps);
}
EXPORT(rms_norm_back_block)

// layer_norm_back_rows: with g = w*dy and n = (x-mean)*r, dx = r*(g - Σg/over - n*Σ g*n/over). dx may be dy.
template <int SIZE>
DEVICE void layer_norm_back_rows(double *part, float *dx, const float *dy, const float *x, const float *w, long long rows, int d, float over, float eps) {
	Team<SIZE> team{part};
	bool wide = wide4(d, dx) && aligned(dy) && aligned(x) && aligned(w);
	for (long long i = team.first(); i < rows; i += team.step()) {
		const float *in = x + i * d, *grad = dy + i * d;
		Moments m = layer_moments(team, in, d, wide, over, eps);
		double sum = 0, dot = 0;
		for (int c = 4 * team.member(); c < d; c += 4 * SIZE) {
			float4 v = load4(in, c, d, wide), g = load4(grad, c, d, wide), s = load4(w, c, d, wide);
			double a = gain(s.x, g.x), b = gain(s.y, g.y), e = gain(s.z, g.z), f = gain(s.w, g.w); // zeros beyond the end
			sum += a + b + e + f;
			dot += a * (v.x - m.mean) + b * (v.y - m.mean) + e * (v.z - m.mean) + f * (v.w - m.mean);
		}
		double mean = team.sum(sum) / over, along = team.sum(dot) * m.r * m.r / over;
		for (int c = 4 * team.member(); c < d; c += 4 * SIZE) {
			float4 v = load4(in, c, d, wide), g = load4(grad, c, d, wide), s = load4(w, c, d, wide);
			store4(dx + i * d, c, d, wide, each4(v, g, s, [=](float v, float g, float s) {
				       return (float)(m.r * (gain(s, g) - mean - (v - m.mean) * along));
			       }));
		}
	}
}

KERNEL(layer_norm_back_warp)(float *dx, const float *dy, const float *x, const float *w, long long rows, int d, float over, float eps) {
	layer_norm_back_rows<32>(0, dx, dy, x, w, rows, d, over, eps);
}
EXPORT(layer_norm_back_warp)

KERNEL(layer_norm_back_block)(float *dx, const float *dy, const float *x, const float *w, long long rows, int d, float over, float eps) {
	SHARED double part[ROW_THREADS / 32];
	layer_norm_back_rows<ROW_THREADS>(part, dx, dy, x, w, rows, d, over, eps);
}
EXPORT(layer_norm_back_block)
