// Products on tensor cores, without errors.
#include "common.cuh"

// fragments: d += a·b, a [16,16] and b [16,8] in bfloat16, with fragments as the comment of mma_bf16 has them.
KERNEL(fragments)(float *d, const uint16_t *a, const uint16_t *b) {
	const int g = lane() / 4, t = lane() % 4;
	auto pair = [](uint16_t lo, uint16_t hi) { return lo | (uint32_t)hi << 16; };
	uint32_t x[4], y[2];
	for (int i = 0; i < 4; i++) {
		int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
		x[i] = pair(a[row * 16 + column], a[row * 16 + column + 1]);
	}
	for (int i = 0; i < 2; i++) y[i] = pair(b[(2 * t + 8 * i) * 8 + g], b[(2 * t + 8 * i + 1) * 8 + g]);
	float z[4] = {d[g * 8 + 2 * t], d[g * 8 + 2 * t + 1], d[(g + 8) * 8 + 2 * t], d[(g + 8) * 8 + 2 * t + 1]};
	mma_bf16(z, x, y);
	for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = z[i];
}
EXPORT(fragments)

// loaded: d[16,16] += a·b, a [16,16] by rows and b [16,16] by rows; bt is the same b by columns. Fragments come from ldmatrix alone, so
// the product is right only if its layout and that of mma belong together. which says where b comes from.
KERNEL(loaded)(float *d, const uint16_t *a, const uint16_t *b, const uint16_t *bt, int which) {
	SHARED __align__(16) uint16_t sa[16][24], sb[16][24];
	for (int i = threadIdx.x; i < 256; i += 32) {
		sa[i / 16][i % 16] = a[i];
		sb[i / 16][i % 16] = which ? bt[i] : b[i];
	}
	__syncwarp();
	const int l = lane();
	uint32_t x[4], y[4];
	ldmatrix4(x, &sa[l % 16][l / 16 * 8]);
	if (which) {
		ldmatrix4(y, &sb[l % 8 + l / 16 * 8][l / 8 % 2 * 8]);
	} else {
		ldmatrix4_trans(y, &sb[l % 16][l / 16 * 8]);
	}
	for (int half = 0; half < 2; half++) {
		float z[4];
		const uint32_t w[2] = {y[2 * half], y[2 * half + 1]};
		for (int i = 0; i < 4; i++) z[i] = d[(l / 4 + i / 2 * 8) * 16 + half * 8 + 2 * (l % 4) + i % 2];
		mma_bf16(z, x, w);
		for (int i = 0; i < 4; i++) d[(l / 4 + i / 2 * 8) * 16 + half * 8 + 2 * (l % 4) + i % 2] = z[i];
	}
}
EXPORT(loaded)

// rows: y[2][32][4] is what ldmatrix4 and ldmatrix4_trans give of four 8x8 matrices that follow one another in x.
KERNEL(rows)(uint32_t *y, const uint16_t *x) {
	SHARED __align__(16) uint16_t s[4][8][8];
	for (int i = threadIdx.x; i < 256; i += 32) s[i / 64][i / 8 % 8][i % 8] = x[i];
	__syncwarp();
	uint32_t r[4];
	ldmatrix4(r, s[lane() / 8][lane() % 8]);
	for (int i = 0; i < 4; i++) y[lane() * 4 + i] = r[i];
	ldmatrix4_trans(r, s[lane() / 8][lane() % 8]);
	for (int i = 0; i < 4; i++) y[128 + lane() * 4 + i] = r[i];
}
EXPORT(rows)

// ring: y = x through a ring of two stages of copies, the second half of each 8 values as zeros.
KERNEL(ring)(uint16_t *y, const uint16_t *x, int steps) {
	SHARED __align__(16) uint16_t s[2][32][8];
	const int t = threadIdx.x;
	copy16_async(s[0][t], x + t * 8, t % 2 ? 0 : 16);
	copy_commit();
	for (int i = 0; i < steps; i++) {
		if (i + 1 < steps) copy16_async(s[(i + 1) % 2][t], x + ((i + 1) * 32 + t) * 8, t % 2 ? 0 : 16);
		copy_commit();
		copy_wait<1>();
		__syncthreads();
		for (int j = 0; j < 8; j++) y[(i * 32 + t) * 8 + j] = s[i % 2][31 - t][j];
		__syncthreads();
	}
}
EXPORT(ring)
