// The activations of feed-forward layers and the way of a gradient back through them, value by value and bound by memory.
#include "vector.cuh"

// sigmoid is 1/(1+e^-x): 0 for very negative x, where the exponential overflows.
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// silu_mul: y = gate/(1+e^-gate)*up, the gate of SwiGLU (Shazeer, arXiv:2002.05202). 12 bytes are moved for each value.
KERNEL(silu_mul)(float *y, const float *gate, const float *up, long long n) {
	map4(y, gate, up, n, [](float g, float u) { return g / (1.0f + expf(-g)) * u; });
}
EXPORT(silu_mul)

// silu_mul_back: with s = sigmoid(gate), dgate = dy*up*s*(1+gate*(1-s)) and dup = dy*gate*s. Either may be any of the inputs. 20 bytes
// are moved for each value.
KERNEL(silu_mul_back)(float *dgate, float *dup, const float *dy, const float *gate, const float *up, long long n) {
	bool wide = aligned(dgate) && aligned(dup) && aligned(dy) && aligned(gate) && aligned(up);
	for (long long c = 4 * thread(); c < n; c += 4 * threads()) {
		float4 d = load4(dy, c, n, wide), g = load4(gate, c, n, wide), u = load4(up, c, n, wide);
		float4 s = each4(g, [](float g) { return sigmoid(g); });
		float4 by_gate = each4(each4(d, u, [](float d, float u) { return d * u; }), g, s,
		                       [](float du, float g, float s) { return du * s * (1.0f + g * (1.0f - s)); });
		store4(dup, c, n, wide, each4(d, g, s, [](float d, float g, float s) { return d * (g * s); }));
		store4(dgate, c, n, wide, by_gate);
	}
}
EXPORT(silu_mul_back)

const float SQRT_HALF = 0.70710678118654752440f;    // sqrt(1/2)
const float SQRT_2_PI = 0.79788456080286535588f;    // sqrt(2/π)
const float INV_SQRT_2PI = 0.39894228040143267794f; // 1/sqrt(2π)
const float CUBE = 0.044715f;

// gelu_angle is u of x/2*(1+tanh(u)) = x*sigmoid(2u), the approximation of GELU (Hendrycks and Gimpel, arXiv:1606.08415).
DEVICE float gelu_angle(float x) { return SQRT_2_PI * (x + CUBE * x * x * x); }

// gelu_erf: y = x*Φ(x), Φ(x) = erfc(-x/√2)/2, which loses no digits where x is negative. 8 bytes are moved for each value.
KERNEL(gelu_erf)(float *y, const float *x, long long n) {
	map4(y, x, n, [](float v) { return 0.5f * v * erfcf(-v * SQRT_HALF); });
}
EXPORT(gelu_erf)

// gelu_tanh: y = x/(1+e^-2u). 8 bytes are moved for each value.
KERNEL(gelu_tanh)(float *y, const float *x, long long n) {
	map4(y, x, n, [](float v) { return v / (1.0f + expf(-2.0f * gelu_angle(v))); });
}
EXPORT(gelu_tanh)

// gelu_erf_back: dx = dy*(Φ(x)+x*φ(x)). 12 bytes are moved for each value.
KERNEL(gelu_erf_back)(float *dx, const float *dy, const float *x, long long n) {
	map4(dx, dy, x, n, [](float d, float v) { return d * (0.5f * erfcf(-v * SQRT_HALF) + v * INV_SQRT_2PI * expf(-0.5f * v * v)); });
}
EXPORT(gelu_erf_back)

// gelu_tanh_back: dx = dy*(s+2*x*s*(1-s)*u'), s = sigmoid(2u) and u' = sqrt(2/π)*(1+3*0.044715*x²). Past 40 the second part has vanished
// and x is not squared. 12 bytes are moved for each value.
KERNEL(gelu_tanh_back)(float *dx, const float *dy, const float *x, long long n) {
	map4(dx, dy, x, n, [](float d, float v) {
		float s = sigmoid(2.0f * gelu_angle(v)), z = fminf(fmaxf(v, -40.0f), 40.0f);
		return d * (s + 2.0f * z * (s * (1.0f - s)) * SQRT_2_PI * (1.0f + 3.0f * CUBE * z * z));
	});
}
EXPORT(gelu_tanh_back)
