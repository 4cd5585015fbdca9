// Noisy multipliers of units (Dai et al., arXiv:1802.10399: z = mu + eps*sigma).
#include "random.cuh"
#include "vector.cuh"

// sample_masks: eps are the normal numbers 0 to n-1 of a stream, two for each number of 64 bits by the method of Box and Muller, and
// z = mu + eps*e^(log_d/2). 16 bytes are moved for each, and two logarithms and sines are taken for four.
KERNEL(sample_masks)(float *eps, float *z, const float *mu, const float *log_d, long long key, long long n) {
	const double TWO_PI = 6.28318530717958647692;
	for (long long c = 2 * thread(); c < n; c += 2 * threads()) {
		uint64_t bits = mix64((uint64_t)key + (uint64_t)(c / 2));
		double u = ((double)(bits >> 32) + 0.5) / 4294967296.0, v = ((double)(bits & 0xffffffffu) + 0.5) / 4294967296.0;
		double r = sqrt(-2 * log(u));
		float e = (float)(r * cos(TWO_PI * v));
		eps[c] = e;
		z[c] = (float)(mu[c] + __dmul_rn((double)e, exp((double)log_d[c] / 2)));
		if (c + 1 < n) {
			e = (float)(r * sin(TWO_PI * v));
			eps[c + 1] = e;
			z[c + 1] = (float)(mu[c + 1] + __dmul_rn((double)e, exp((double)log_d[c + 1] / 2)));
		}
	}
}
EXPORT(sample_masks)
