// Tiles of matrices in shared memory and their products on tensor cores.
//
// A matrix is the sum of TERMS planes of bfloat16 values: one where values are rounded, three where f32 values are kept whole, 8 bits
// in each. Its rows have KP values, a multiple of 64. A tile is some of its rows, in shared memory aligned to 128 bytes: plane after
// plane, row after row, the 16-byte pieces of row r permuted (piece p lies at p^(r%8)), so that the same pieces of eight rows lie in
// different banks. A pointer into a tile is to its first plane and to a row whose number is a multiple of 8.
//
// Fragments are those of mma_bf16: MT blocks of 16 rows, NB blocks of 8 columns.
#pragma once
#include "common.cuh"

template <int KP>
DEVICE int tile_piece(int row, int piece) {
	return row * (2 * KP) + ((piece ^ (row & 7)) * 16);
}

// tile_load starts copies of the rows [row, row+ROWS) of a matrix, whose planes are stride values apart, by all THREADS of the block.
// With CHECK rows from rows on become zeros; without it the matrix has them all.
template <int KP, int TERMS, int ROWS, int THREADS, bool CHECK>
DEVICE void tile_load(char *tile, const uint16_t *planes, long long stride, int row, int rows) {
	const int pieces = KP / 8, step = THREADS / pieces; // rows that the block copies at once
	static_assert(THREADS % pieces == 0, "a thread copies the same piece of several rows");
	const int first = threadIdx.x / pieces, piece = threadIdx.x % pieces;
	UNROLL for (int t = 0; t < TERMS; t++) {
		const uint16_t *from = planes + t * stride + (long long)row * KP + threadIdx.x * 8;
		UNROLL for (int i = 0; i < (ROWS + step - 1) / step; i++) {
			const int r = first + i * step;
			if (ROWS % step == 0 || r < ROWS) {
				const bool there = !CHECK || row + r < rows;
				copy16_async(tile + t * (ROWS * KP * 2) + tile_piece<KP>(r, piece), there ? from + i * (THREADS * 8) : planes, there ? 16 : 0);
			}
		}
	}
}

// Where a lane reads a fragment: of 16 rows and 16 columns (a of mma), of 16 rows which are the columns of b, and, by
// ldmatrix4_trans, of 16 rows which are the rows of b. tile_step moves it on by step*16 columns.
template <int KP>
DEVICE int lane_of_a() {
	return tile_piece<KP>(lane() % 16, lane() / 16);
}
template <int KP>
DEVICE int lane_of_b() {
	return tile_piece<KP>(lane() % 8 + lane() / 16 * 8, lane() / 8 % 2);
}
template <int KP>
DEVICE int lane_of_rows() {
	return lane_of_a<KP>();
}
DEVICE int tile_step(int at, int step) { return (at ^ (step % 4 * 32)) + step / 4 * 128; }

// mma_half multiplies by one of the two column blocks of a fragment of 16 columns.
DEVICE void mma_half(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], int half) {
	const uint32_t part[2] = {half ? b[2] : b[0], half ? b[3] : b[1]};
	mma_bf16(d, a, part);
}

// Products of planes are taken where their numbers add up to less than TERMS, in this order: smallest first. What is left out of three
// planes is below 2^-24 of the whole.
DEVICE constexpr int term_pairs(int terms) { return terms == 1 ? 1 : 6; }
DEVICE constexpr int pair_left(int terms, int n) { return terms == 1 ? 0 : n == 0 ? 1 : n == 1 ? 0 : n == 2 ? 2 : n == 3 ? 0 : n == 4 ? 1 : 0; }
DEVICE constexpr int pair_right(int terms, int n) { return terms == 1 ? 0 : n == 0 ? 1 : n == 1 ? 2 : n == 2 ? 0 : n == 3 ? 1 : 0; }

template <int A, int B, int C>
DEVICE void tile_clear(float (&d)[A][B][C]) {
	UNROLL for (int i = 0; i < A; i++) UNROLL for (int j = 0; j < B; j++) UNROLL for (int k = 0; k < C; k++) d[i][j][k] = 0;
}

// tile_fragments and tile_fragments_trans read N fragments of 16 rows of each plane of a tile of ROWS rows, where a lane reads them; those
// of the first one after the other down the rows, those of the second along the columns.
template <int KP, int TERMS, int N, int ROWS>
DEVICE void tile_fragments(uint32_t (&f)[TERMS][N][4], const char *tile, int at) {
	UNROLL for (int t = 0; t < TERMS; t++) UNROLL for (int n = 0; n < N; n++) ldmatrix4(f[t][n], tile + (t * ROWS + n * 16) * (2 * KP) + at);
}
template <int KP, int TERMS, int N, int ROWS>
DEVICE void tile_fragments_trans(uint32_t (&f)[TERMS][N][4], const char *tile, int at, int step) {
	UNROLL for (int t = 0; t < TERMS; t++)
		UNROLL for (int n = 0; n < N; n++) ldmatrix4_trans(f[t][n], tile + t * ROWS * (2 * KP) + tile_step(at, step + n));
}

template <int A, int B>
DEVICE void tile_copy(uint32_t (&d)[A][B][4], const uint32_t (&s)[A][B][4]) {
	UNROLL for (int i = 0; i < A; i++) UNROLL for (int j = 0; j < B; j++) UNROLL for (int k = 0; k < 4; k++) d[i][j][k] = s[i][j][k];
}

// tile_dots: d[i][j] = a[i]·b[j] for 16*MT rows of a tile of AROWS rows and 8*NB rows of one of BROWS. Of three planes, the products
// besides that of the first ones have a sum of their own until the end. Fragments are read one step ahead.
template <int KP, int TERMS, int MT, int NB, int AROWS, int BROWS>
DEVICE void tile_dots(float (&d)[MT][NB][4], const char *a, const char *b) {
	const int at = lane_of_a<KP>(), bt = lane_of_b<KP>();
	const int part = TERMS == 1 || NB < 4 ? NB : 4, wide = TERMS == 1 ? 2 : part, steps = part / wide, row = 2 * KP;
	tile_clear(d);
	UNROLL for (int n0 = 0; n0 < NB; n0 += part) {
		float low[MT][wide][4];
		uint32_t x[TERMS][MT][4], y[TERMS][wide / 2][4], x1[TERMS][MT][4], y1[TERMS][wide / 2][4];
		tile_clear(low);
		tile_fragments<KP, TERMS, MT, AROWS>(x1, a, tile_step(at, 0));
		tile_fragments<KP, TERMS, wide / 2, BROWS>(y1, b + n0 * 8 * row, tile_step(bt, 0));
		UNROLL for (int i = 0; i < KP / 16 * steps; i++) {
			const int j = i + 1, from = n0 + i % steps * wide;
			if (i % steps == 0) tile_copy(x, x1);
			tile_copy(y, y1);
			if (j % steps == 0 && j / steps < KP / 16) tile_fragments<KP, TERMS, MT, AROWS>(x1, a, tile_step(at, j / steps));
			if (j / steps < KP / 16) tile_fragments<KP, TERMS, wide / 2, BROWS>(y1, b + (n0 + j % steps * wide) * 8 * row, tile_step(bt, j / steps));
			UNROLL for (int p = 0; p < term_pairs(TERMS); p++) UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < wide; n++) {
				const int u = pair_left(TERMS, p), v = pair_right(TERMS, p);
				mma_half(u + v > 0 ? low[m][n] : d[m][from + n], x[u][m], y[v][n / 2], n % 2);
			}
		}
		if (TERMS > 1) {
			UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < wide; n++) UNROLL for (int e = 0; e < 4; e++) d[m][n0 + n][e] += low[m][n][e];
		}
	}
}

// tile_weights makes of a matrix as tile_dots leaves it the left side of a product, in TERMS planes.
template <int TERMS, int MT, int NB>
DEVICE void tile_weights(uint32_t (&w)[TERMS][MT][NB / 2][4], const float (&d)[MT][NB][4]) {
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int k = 0; k < NB / 2; k++) UNROLL for (int e = 0; e < 4; e++) {
		float x = d[m][2 * k + e / 2][e % 2 * 2], y = d[m][2 * k + e / 2][e % 2 * 2 + 1];
		UNROLL for (int t = 0; t < TERMS; t++) {
			const uint32_t pair = bf16_pair(x, y);
			w[t][m][k][e] = pair;
			x -= bits_float(pair << 16);
			y -= bits_float(pair & 0xffff0000u);
		}
	}
}

// tile_sum: d[i] += Σ_j w[i][j]*b[j] for 16*KT rows of a tile of BROWS rows, of these the 8*NB columns from where b points, a multiple of
// 64. Of three planes, the products of the tile are summed before d is added to them: sums of many tiles round to nearest.
template <int KP, int TERMS, int MT, int KT, int NB, int BROWS>
DEVICE void tile_sum(float (&d)[MT][NB][4], const uint32_t (&w)[TERMS][MT][KT][4], const char *b) {
	const int at = lane_of_rows<KP>(), part = TERMS == 1 ? NB : 4, wide = TERMS == 1 ? 2 : 4, steps = part / wide;
	UNROLL for (int n0 = 0; n0 < NB; n0 += part) {
		float high[MT][wide][4], low[MT][wide][4];
		uint32_t y[TERMS][wide / 2][4], y1[TERMS][wide / 2][4];
		tile_clear(high);
		tile_clear(low);
		tile_fragments_trans<KP, TERMS, wide / 2, BROWS>(y1, b, at, n0 / 2);
		UNROLL for (int i = 0; i < KT * steps; i++) {
			const int k = i / steps, j = i + 1, from = n0 + i % steps * wide;
			tile_copy(y, y1);
			if (j < KT * steps) tile_fragments_trans<KP, TERMS, wide / 2, BROWS>(y1, b + j / steps * 16 * (2 * KP), at, (n0 + j % steps * wide) / 2);
			UNROLL for (int p = 0; p < term_pairs(TERMS); p++) UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < wide; n++) {
				const int u = pair_left(TERMS, p), v = pair_right(TERMS, p);
				mma_half(TERMS == 1 ? d[m][from + n] : u + v > 0 ? low[m][n] : high[m][n], w[u][m][k], y[v][n / 2], n % 2);
			}
		}
		if (TERMS > 1) {
			UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < wide; n++) UNROLL for (int e = 0; e < 4; e++)
				d[m][n0 + n][e] += high[m][n][e] + low[m][n][e];
		}
	}
}
