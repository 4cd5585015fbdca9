// The matrix product of a warp, in the arithmetic of the hardware.
#include <math.h>
#include <string.h>

#include "halves.h"
#include "machine.h"
#include "warp.h"

namespace emu {

static float low(uint32_t w) { return bits_float(w << 16); }
static float high(uint32_t w) { return bits_float(w & 0xffff0000u); }

// Elements of A are numbered a0..a7, of B b0..b3, of C and D c0..c3, two to a word for A and B. With group = lane/4 and t = lane%4
// (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"):
//   A: row = group for i in {0,1,4,5}, else group+8; column = 2t + i%2, and 8 more for i >= 4
//   B: row = 2t + i%2, and 8 more for i >= 2; column = group
//   C: row = group for i < 2, else group+8; column = 2t + i%2
struct Tile {
	float a[16][16], b[16][8], c[16][8];
};

// pair writes the two values of a word side by side.
static void pair(float *to, uint32_t w) {
	const uint64_t both = (uint64_t)(w & 0xffff0000u) << 32 | w << 16;
	memcpy(to, &both, 8);
}

// gather reads the fragments; either says whether there is a value other than zero in a and in b.
static void gather(Tile &m, void *const *lanes, uint32_t (&either)[2]) {
	for (int lane = 0; lane < 32; lane++) {
		const Mma &f = *static_cast<Mma *>(lanes[lane]);
		const int group = lane / 4, t = lane % 4;
		for (int i = 0; i < 4; i++) pair(&m.a[group + i % 2 * 8][2 * t + i / 2 * 8], f.a[i]);
		for (int i = 0; i < 2; i++) {
			m.b[2 * t + 8 * i][group] = low(f.b[i]);
			m.b[2 * t + 8 * i + 1][group] = high(f.b[i]);
			memcpy(&m.c[group + 8 * i][2 * t], f.d + 2 * i, 8);
		}
		either[0] |= (f.a[0] | f.a[1] | f.a[2] | f.a[3]) & 0x7fff7fff;
		either[1] |= (f.b[0] | f.b[1]) & 0x7fff7fff;
	}
}

static void scatter(const Tile &m, void *const *lanes) {
	for (int lane = 0; lane < 32; lane++) {
		float *d = static_cast<Mma *>(lanes[lane])->d;
		for (int i = 0; i < 2; i++) memcpy(d + 2 * i, &m.c[lane / 4 + 8 * i][2 * (lane % 4)], 8);
	}
}

// toward_zero rounds to f32 toward zero.
static float toward_zero(double x) {
	float f = (float)x;
	return fabs((double)f) > fabs(x) ? nextafterf(f, 0) : f;
}

// accumulate is c + Σ a[k]*b[k] over eight k: the exact products and c are brought to the exponent of the largest of them, cut off
// below its 24th fractional bit, and added; the sum is rounded toward zero. So Fasi et al., "Numerical behavior of NVIDIA tensor
// cores", 2021, found it on the A100, and Khattak and Mikaitis, "Accurate Models of NVIDIA Tensor Cores", 2025. The H100 adds
// sixteen at once and keeps one more bit: its error is not larger.
static float accumulate(float c, const float *a, const float (*b)[8], int column) {
	double terms[9], largest = fabs((double)c);
	terms[8] = c;
	for (int k = 0; k < 8; k++) {
		terms[k] = (double)a[k] * b[k][column];
		largest = fmax(largest, fabs(terms[k]));
	}
	double plain = 0;
	for (double t : terms) plain += t;
	if (!(largest < INFINITY) || plain != plain) return (float)plain; // NaN or infinite, where fmax has lost a NaN too
	if (largest == 0) return (float)plain;
	// The largest has its exponent field at the top of the double: 2^(24-exponent), and its inverse, by their bits.
	uint64_t bits;
	memcpy(&bits, &largest, 8);
	uint64_t exponent = bits >> 52;
	double scale, unit;
	uint64_t up = (2046 + 24 - exponent) << 52, down = (exponent - 24) << 52;
	memcpy(&scale, &up, 8);
	memcpy(&unit, &down, 8);
	double sum = 0;
	for (double t : terms) sum += trunc(t * scale);
	return toward_zero(sum * unit);
}

// Eight columns side by side.
typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef int32_t Half __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(32)));
typedef int64_t Longs __attribute__((vector_size(32)));
typedef float Quarter __attribute__((vector_size(16)));

static bool any(const Ints &x) {
	const Longs y = (Longs)x;
	return (y[0] | y[1] | y[2] | y[3]) != 0;
}

// cut returns four sums, in units, as f32 rounded toward zero.
static Quarter cut(const Half &sum, const Half &exponent) {
	const Doubles unit = (Doubles)((__builtin_convertvector(exponent, Longs) + (1023 - 127 - 24)) << 52);
	const Doubles whole = __builtin_convertvector(sum, Doubles) * unit;
	return __builtin_convertvector((Doubles)((Longs)whole & ~(((int64_t)1 << 29) - 1)), Quarter); // 24 bits are left
}

// accumulate_row is accumulate for the eight columns. They are taken one by one where there are values that are not finite, or where a
// result may be beyond the normal numbers of f32. Else products are exact in f32, and so are products by a power of two: what falls out
// of its range is below the last bit that counts.
static void accumulate_row(float *c, const float *a, const float (*b)[8]) {
	Floats terms[9], largest = {}, plain = {};
#pragma GCC unroll 9
	for (int k = 0; k < 9; k++) {
		memcpy(&terms[k], k < 8 ? b[k] : c, sizeof terms[k]);
		if (k < 8) terms[k] *= a[k];
		const Floats size = (Floats)((Ints)terms[k] & 0x7fffffff);
		largest = size > largest ? size : largest; // a NaN is not, and shows in the sum
		plain += terms[k];
	}
	largest = largest == 0 ? largest + 1 : largest;
	if (any((plain != plain) | (largest < 0x1p-100f) | (largest > 0x1p120f))) {
		for (int j = 0; j < 8; j++) c[j] = accumulate(c[j], a, b, j);
		return;
	}
	const Ints exponent = (Ints)largest >> 23;
	const Floats scale = (Floats)((127 + 127 + 24 - exponent) << 23);
	Ints sum = {};
#pragma GCC unroll 9
	for (int k = 0; k < 9; k++) sum += __builtin_convertvector(terms[k] * scale, Ints);
	for (int h = 0; h < 2; h++) {
		Half s, e;
		memcpy(&s, (const char *)&sum + 16 * h, 16);
		memcpy(&e, (const char *)&exponent + 16 * h, 16);
		const Quarter row = cut(s, e);
		memcpy(c + 4 * h, &row, 16);
	}
}

static bool finite(const float *x, int n) {
	for (int i = 0; i < n; i++)
		if (!(x[i] - x[i] == 0)) return false;
	return true;
}

void mma_lanes(void *const *lanes, unsigned) {
	Tile m;
	uint32_t either[2] = {};
	gather(m, lanes, either);
	// Rows are padded with zeros, and so are tiles: -0 becomes 0, and nothing else changes.
	const bool idle = (!either[0] || !either[1]) && finite(m.a[0], 256) && finite(m.b[0], 128);
	for (int i = 0; i < 16; i++) {
		if (idle) {
			for (int j = 0; j < 8; j++) m.c[i][j] += 0.0f;
			continue;
		}
		accumulate_row(m.c[i], m.a[i], m.b);
		accumulate_row(m.c[i], m.a[i] + 8, m.b + 8);
	}
	scatter(m, lanes);
}

} // namespace emu
