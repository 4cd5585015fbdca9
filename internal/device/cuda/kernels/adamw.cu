// AdamW (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2) with the bits of the host's: each value depends on its own place alone, and
// every product is rounded.
#include "random.cuh"
#include "team.cuh"

// Factors are the constants of a step: of the gradient and of the parameter, of the moments, of the update.
struct Factors {
	float scale, keep, old1, new1, old2, new2, rate, root, eps;
};

// moved updates the moments m and v of a parameter p with the gradient g and returns what it becomes.
DEVICE float moved(const Factors &f, float p, float g, float &m, float &v) {
	float s = __fmul_rn(f.scale, g);
	m = __fmul_rn(f.old1, m) + __fmul_rn(f.new1, s);
	v = __fmul_rn(f.old2, v) + __fmul_rn(f.new2, __fmul_rn(s, s));
	return __fmul_rn(p, f.keep) - __fmul_rn(f.rate, m) / (__fmul_rn(sqrtf(v), f.root) + f.eps);
}

// adamw moves n parameters. 28 bytes are moved for each.
KERNEL(adamw)(float *p, const float *g, float *m, float *v, long long n, float scale, float keep, float old1, float new1, float old2, float new2,
              float rate, float root, float eps) {
	Factors f = {scale, keep, old1, new1, old2, new2, rate, root, eps};
	bool wide = aligned(p) && aligned(g) && aligned(m) && aligned(v);
	for (long long c = 4 * thread(); c < n; c += 4 * threads()) {
		float4 w = load4(p, c, n, wide), d = load4(g, c, n, wide), a = load4(m, c, n, wide), b = load4(v, c, n, wide);
		w.x = moved(f, w.x, d.x, a.x, b.x);
		w.y = moved(f, w.y, d.y, a.y, b.y);
		w.z = moved(f, w.z, d.z, a.z, b.z);
		w.w = moved(f, w.w, d.w, a.w, b.w);
		store4(p, c, n, wide, w);
		store4(m, c, n, wide, a);
		store4(v, c, n, wide, b);
	}
}
EXPORT(adamw)

// bf16_random cuts x to bfloat16 after adding draw, which is below 2^16, to the part that is cut off: up with the probability of that part
// (Gupta et al., arXiv:1502.02551). Finite values stay finite.
DEVICE uint16_t bf16_random(float x, uint32_t draw) {
	uint32_t b = float_bits(x);
	if ((b >> 16 & 0x7f80) == 0x7f80) return x != x ? (uint16_t)(b >> 16 | 0x40) : (uint16_t)(b >> 16);
	uint32_t h = (b + draw) >> 16;
	return (uint16_t)((h & 0x7f80) == 0x7f80 ? (h & 0x8000) | 0x7f7f : h);
}

// adamw_bf16 is adamw for parameters in bfloat16, which are rounded at random: value i of the tensor takes 16 bits of number i/4 of the stream
// draws. 24 bytes are moved for each.
KERNEL(adamw_bf16)(uint16_t *p, const float *g, float *m, float *v, long long n, long long draws, float scale, float keep, float old1, float new1,
                   float old2, float new2, float rate, float root, float eps) {
	Factors f = {scale, keep, old1, new1, old2, new2, rate, root, eps};
	for (long long c = thread(); c < n; c += threads()) {
		float a = m[c], b = v[c], w = moved(f, bf16_to(p[c]), g[c], a, b);
		uint64_t draw = mix64((uint64_t)draws + (uint64_t)(c / 4) * GAMMA);
		p[c] = bf16_random(w, (uint32_t)(draw >> 16 * (c % 4)) & 0xffff);
		m[c] = a;
		v[c] = b;
	}
}
EXPORT(adamw_bf16)

// squares_chunk: part[k] = Σ x² over values [k*size, (k+1)*size) of n, in float64; size is a multiple of 4. 4 bytes are moved for each value.
KERNEL(squares_chunk)(double *part, const float *x, long long n, int size) {
	SHARED double shared[ROW_THREADS / 32];
	long long lo = (long long)blockIdx.x * size, hi = lo + size < n ? lo + size : n;
	bool wide = aligned(x);
	double s = 0;
	for (long long c = lo + 4 * threadIdx.x; c < hi; c += 4 * ROW_THREADS) {
		float4 v = load4(x, c, hi, wide);
		s += dot4(v, v);
	}
	s = Team<ROW_THREADS>{shared}.sum(s);
	if (threadIdx.x == 0) part[blockIdx.x] = s;
}
EXPORT(squares_chunk)
