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
	float a[16][16], b[8][16], c[16][8]; // b by columns
};

static void gather(Tile &m, void *const *lanes) {
	for (int lane = 0; lane < 32; lane++) {
		const Mma &f = *static_cast<Mma *>(lanes[lane]);
		int group = lane / 4, t = lane % 4;
		for (int i = 0; i < 8; i++) {
			int row = i == 0 || i == 1 || i == 4 || i == 5 ? group : group + 8, column = 2 * t + i % 2 + (i >= 4 ? 8 : 0);
			m.a[row][column] = i % 2 ? high(f.a[i / 2]) : low(f.a[i / 2]);
		}
		for (int i = 0; i < 4; i++) {
			int row = 2 * t + i % 2 + (i >= 2 ? 8 : 0);
			m.b[group][row] = i % 2 ? high(f.b[i / 2]) : low(f.b[i / 2]);
			m.c[i < 2 ? group : group + 8][2 * t + i % 2] = f.d[i];
		}
	}
}

static void scatter(const Tile &m, void *const *lanes) {
	for (int lane = 0; lane < 32; lane++) {
		const Mma &f = *static_cast<Mma *>(lanes[lane]);
		for (int i = 0; i < 4; i++) f.d[i] = m.c[i < 2 ? lane / 4 : lane / 4 + 8][2 * (lane % 4) + i % 2];
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
static float accumulate(float c, const float *a, const float *b) {
	double terms[9], largest = fabs((double)c);
	terms[8] = c;
	for (int k = 0; k < 8; k++) {
		terms[k] = (double)a[k] * b[k];
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

void mma_lanes(void *const *lanes, unsigned) {
	Tile m;
	gather(m, lanes);
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 8; j++) {
			float c = accumulate(m.c[i][j], m.a[i], m.b[j]);
			m.c[i][j] = accumulate(c, m.a[i] + 8, m.b[j] + 8);
		}
	scatter(m, lanes);
}

} // namespace emu
