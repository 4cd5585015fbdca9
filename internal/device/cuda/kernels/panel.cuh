// Products of a tile of rows with many others that pass by, in panels: 64 columns of a tile at a time, so that shared memory does not
// grow with the columns.
#pragma once
#include "tile.cuh"

static constexpr int kPanel = 64;              // columns of a panel, and rows of the tiles that pass by
static constexpr int kPanelBytes = 64 * 2 * 64; // one plane of 64 rows

// Rows is a matrix of bfloat16 planes: `stride` values lie between planes, and a row has columns*64 values.
struct Rows {
	const uint16_t *planes;
	long long stride;
	int columns, rows;
};

// panel_load starts copies of 64 columns of the rows [row, row+ROWS) to a tile of 64 columns. Rows outside of the matrix become zeros.
template <int TERMS, int ROWS, int THREADS>
DEVICE void panel_load(char *tile, const Rows &m, int row, int panel) {
	static_assert(ROWS * 8 % THREADS == 0, "every thread copies as many pieces");
	UNROLL for (int t = 0; t < TERMS; t++) UNROLL for (int i = 0; i < ROWS * 8 / THREADS; i++) {
		const int n = i * THREADS + threadIdx.x, r = n / 8, piece = n % 8;
		const bool there = row + r < m.rows;
		const uint16_t *from = m.planes + t * m.stride + ((long long)(row + r) * m.columns + panel) * kPanel + piece * 8;
		copy16_async(tile + t * (ROWS * 2 * kPanel) + tile_piece<kPanel>(r, piece), there ? from : m.planes, there ? 16 : 0);
	}
}

// Dots is a block of MT*16 rows and NB*8 columns of products: high is that of the first planes, low what the others add to it.
template <int TERMS, int MT, int NB>
struct Dots {
	float high[MT][NB][4], low[TERMS > 1 ? MT : 1][TERMS > 1 ? NB : 1][4];
};

template <int TERMS, int MT, int NB>
DEVICE void dots_clear(Dots<TERMS, MT, NB> &d) {
	UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < NB; n++) UNROLL for (int e = 0; e < 4; e++) {
		d.high[m][n][e] = 0;
		if (TERMS > 1) d.low[TERMS > 1 ? m : 0][TERMS > 1 ? n : 0][e] = 0;
	}
}

// dots_sum leaves the sum of both in high.
template <int TERMS, int MT, int NB>
DEVICE void dots_sum(Dots<TERMS, MT, NB> &d) {
	if (TERMS > 1) {
		UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < NB; n++) UNROLL for (int e = 0; e < 4; e++) d.high[m][n][e] += d.low[TERMS > 1 ? m : 0][TERMS > 1 ? n : 0][e];
	}
}

// panel_dots adds the products of rows of a with rows of b over the 64 columns of a panel, in the order of tile_dots.
template <int TERMS, int MT, int NB, int AROWS>
DEVICE void panel_dots(Dots<TERMS, MT, NB> &d, const char *a, const char *b) {
	const int at = lane_of_a<kPanel>(), bt = lane_of_b<kPanel>();
	// Unrolled wholly, fragments of all steps are loaded at once, and there are not the registers for two blocks on a multiprocessor.
	_Pragma("unroll 2") for (int k = 0; k < kPanel / 16; k++) {
		uint32_t x[TERMS][MT][4], y[TERMS][NB / 2][4];
		UNROLL for (int t = 0; t < TERMS; t++) {
			UNROLL for (int m = 0; m < MT; m++) ldmatrix4(x[t][m], a + (t * AROWS + m * 16) * (2 * kPanel) + tile_step(at, k));
			UNROLL for (int n = 0; n < NB / 2; n++) ldmatrix4(y[t][n], b + (t * 64 + n * 16) * (2 * kPanel) + tile_step(bt, k));
		}
		UNROLL for (int p = 0; p < term_pairs(TERMS); p++) {
			const int i = pair_left(TERMS, p), j = pair_right(TERMS, p);
			UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < NB; n++)
				mma_half(i + j > 0 ? d.low[TERMS > 1 ? m : 0][TERMS > 1 ? n : 0] : d.high[m][n], x[i][m], y[j][n / 2], n % 2);
		}
	}
}

// Ring multiplies one tile of AROWS rows with tiles of 64 rows, one after the other: rows of a with rows of b and, where PAIRS is 2, rows
// of c with rows of d. 8 warps take blocks of AROWS/4 rows and 32 columns. Where KEPT the panels of a and c stay in shared memory, else they
// pass by too. STAGES panels have room at once, so that what comes next is on its way while the last is worked with; with a single one
// nothing is. None of this changes a bit of the result.
//
// Shared memory: ring_bytes, of which the panels that stay come first.
template <int TERMS, int AROWS, bool KEPT, int STAGES, int PAIRS>
struct Ring {
	static constexpr int MT = AROWS / 64, NB = 4, A = TERMS * kPanelBytes * MT, B = TERMS * kPanelBytes, STAGE = KEPT ? B : A + B, COUNT = STAGES;
	using D = Dots<TERMS, MT, NB>;

	Rows a, b, c, d;
	char *kept, *stages;
	int first;  // row of a and c
	int steps;  // panels of a tile
	int place;  // in the ring, of the first panel of the next tile
	int coming; // the tile whose panels are on their way, or -1

	DEVICE void begin(char *shared, const Rows &qa, const Rows &qb, const Rows &qc, const Rows &qd) {
		a = qa, b = qb, c = qc, d = qd;
		steps = a.columns + (PAIRS == 2 ? c.columns : 0);
		kept = shared;
		stages = shared + (KEPT ? steps * A : 0);
		coming = -1;
		place = 0;
	}

	// one reports whether panel s is of the first pair.
	DEVICE bool one(int s) const { return PAIRS == 1 || s < a.columns; }

	// either is the matrix of the pair of panel s.
	DEVICE Rows either(const Rows &x, const Rows &y, int s) const {
		const bool first = one(s);
		return {first ? x.planes : y.planes, first ? x.stride : y.stride, first ? x.columns : y.columns, first ? x.rows : y.rows};
	}

	// rows makes [row, row+AROWS) the rows of a and c. No thread may still be working with the old ones.
	DEVICE void rows(int row) {
		first = row;
		coming = -1;
		copy_wait<0>();
		__syncthreads();
		if (KEPT) {
			for (int s = 0; s < steps; s++) panel_load<TERMS, AROWS, 256>(kept + s * A, either(a, c, s), first, one(s) ? s : s - a.columns);
			copy_commit();
		}
	}

	// load starts copies of panel s of the tile from row on, to a place in the ring.
	DEVICE void load(int row, int s, int at) {
		char *stage = stages + at % STAGES * STAGE;
		const int panel = one(s) ? s : s - a.columns;
		if (!KEPT) panel_load<TERMS, AROWS, 256>(stage + B, either(a, c, s), first, panel);
		panel_load<TERMS, 64, 256>(stage, either(b, d, s), row, panel);
	}

	// wait waits for a panel and leaves n-1 more on their way.
	DEVICE void wait(int n) const {
		if (n <= 1) copy_wait<0>();
		else if (n == 2) copy_wait<1>();
		else copy_wait<2>();
	}

	// multiply computes the products of the rows with those of the tile from row on; next is the tile that is likely to come after it, or
	// -1. All threads of the block have passed a barrier in it before it returns.
	DEVICE void multiply(D &x, D &y, int row, int next) {
		const int ahead = min(STAGES - 1, steps);
		if (STAGES > 1 && coming != row) {
			copy_wait<0>();
			__syncthreads();
			for (int s = 0; s < ahead; s++) {
				load(row, s, place + s);
				copy_commit();
			}
		}
		dots_clear(x);
		if (PAIRS == 2) dots_clear(y);
		for (int s = 0; s < steps; s++) {
			if (STAGES > 1) wait(ahead);
			__syncthreads();
			if (s + ahead < steps) load(row, s + ahead, place + s + ahead);
			else if (next >= 0) load(next, s + ahead - steps, place + s + ahead);
			copy_commit();
			if (STAGES == 1) {
				copy_wait<0>();
				__syncthreads();
			}
			const char *stage = stages + (place + s) % STAGES * STAGE;
			const char *left = (KEPT ? kept + s * A : stage + B) + warp() % 4 * (AROWS / 4) * (2 * kPanel), *right = stage + warp() / 4 * 32 * (2 * kPanel);
			if (one(s)) panel_dots<TERMS, MT, NB, AROWS>(x, left, right);
			else panel_dots<TERMS, MT, NB, AROWS>(y, left, right);
		}
		place = (place + steps) % STAGES;
		coming = next;
		dots_sum(x);
		if (PAIRS == 2) dots_sum(y);
	}
};

// ring_bytes is the shared memory of a ring of so many panels.
template <class R>
DEVICE int ring_bytes(int steps) {
	return (R::STAGE == R::B ? steps * R::A : 0) + R::COUNT * R::STAGE;
}
