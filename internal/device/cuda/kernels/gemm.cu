// Matrix products on tensor cores where no library is: c[m,n] = a[m,k]·b[n,k]ᵀ + beta*c from planes of bfloat16. One plane is the nearest
// bfloat16; three are the value to 24 bits, x = x0+x1+x2, and the products of planes i and j with i+j < 3 give what f32 gives. A value that is not
// finite makes its row or column of c so.
#include "common.cuh"

const int TILE = 128, STEP = 32;           // of rows and columns of c for a block, and of k that is in shared memory
const int GEMM_THREADS = 256;              // 8 warps, 2 along rows and 4 along columns, of 64 x 32 values each
const int ROW_BYTES = STEP * 2;            // of a row of a plane in shared memory
const int PLANE_BYTES = TILE * ROW_BYTES;  // of a plane's part in shared memory

// slot is where 16 bytes of a row stand in shared memory: chunks trade places between rows, so that eight rows of one chunk lie in
// different banks.
DEVICE int slot(int row, int chunk) { return row * ROW_BYTES + ((chunk ^ (row >> 1 & 3)) << 4); }

// Operand is planes of bfloat16 [rows, k], with ld values from row to row and plane from one to the next. Rows are aligned to 16 bytes, and
// k is a multiple of 8.
struct Operand {
	const uint16_t *planes;
	long long plane, ld;
	int rows;
};

// fetch_planes starts to copy TERMS planes of rows [row, row+TILE) and columns [at, at+STEP), zeros beyond the end.
template <int TERMS>
DEVICE void fetch_planes(char *shared, const Operand &x, long long row, long long at, long long k) {
	UNROLL for (int e = 0; e < TERMS * TILE * 4 / GEMM_THREADS; e++) {
		int i = e * GEMM_THREADS + threadIdx.x, plane = i / (TILE * 4), r = i / 4 % TILE, chunk = i % 4;
		bool there = row + r < x.rows && at + 8 * chunk < k;
		const uint16_t *from = there ? x.planes + plane * x.plane + (row + r) * x.ld + at + 8 * chunk : x.planes;
		copy16_async(shared + plane * PLANE_BYTES + slot(r, chunk), from, there ? 16 : 0);
	}
}

// Sums are a warp's part of c.
struct Sums {
	float d[4][4][4]; // [16 rows][8 columns][of the fragment]
};

// multiply adds the products of a step of 16. Those of the planes that matter least come first. With more than one plane the products of a
// step have a sum of their own, which then joins the rest with a rounded addition: tensor cores cut off what does not fit (Ootomo and
// Yokota, arXiv:2203.03341).
template <int TA, int TB>
DEVICE void multiply(Sums &sums, const char *shared, int half) {
	const int rows = warp() / 4 * 64, columns = warp() % 4 * 32, l = lane();
	uint32_t a[TA][4][4];
	UNROLL for (int p = 0; p < TA; p++)
		UNROLL for (int i = 0; i < 4; i++)
			ldmatrix4(a[p][i], shared + p * PLANE_BYTES + slot(rows + 16 * i + l % 16, 2 * half + l / 16));
	UNROLL for (int j = 0; j < 2; j++) {
		uint32_t b[TB][4];
		UNROLL for (int p = 0; p < TB; p++)
			ldmatrix4(b[p], shared + (TA + p) * PLANE_BYTES + slot(columns + 16 * j + l / 16 * 8 + l % 8, 2 * half + l / 8 % 2));
		UNROLL for (int h = 0; h < 2; h++) {
			float part[4][4];
			UNROLL for (int i = 0; i < 4; i++)
				UNROLL for (int e = 0; e < 4; e++) part[i][e] = TA + TB > 2 ? 0 : sums.d[i][2 * j + h][e];
			UNROLL for (int order = 2; order >= 0; order--)
				UNROLL for (int p = 0; p < TA; p++) {
					if (order - p < 0 || order - p >= TB) continue;
					uint32_t w[2] = {b[order - p][2 * h], b[order - p][2 * h + 1]};
					UNROLL for (int i = 0; i < 4; i++) mma_bf16(part[i], a[p][i], w);
				}
			UNROLL for (int i = 0; i < 4; i++)
				UNROLL for (int e = 0; e < 4; e++)
					sums.d[i][2 * j + h][e] = TA + TB > 2 ? sums.d[i][2 * j + h][e] + part[i][e] : part[i][e];
		}
	}
}

// put writes two columns of a row of c.
DEVICE void put(float *c, long long ld, long long row, long long column, int m, int n, float beta, float x, float y) {
	if (row >= m || column >= n) return;
	float *at = c + row * ld + column;
	at[0] = beta == 0 ? x : x + beta * at[0];
	if (column + 1 < n) at[1] = beta == 0 ? y : y + beta * at[1];
}

// gemm_tile computes a tile of c. Tiles follow one another down 8 tiles, then to the right, so that blocks that run together share operands.
template <int TA, int TB, int STAGES>
DEVICE void gemm_tile(float *c, long long ldc, const Operand &a, const Operand &b, long long k, float beta) {
	const int stage = (TA + TB) * PLANE_BYTES;
	char *shared = dynamic_shared();
	long long down = (a.rows + TILE - 1) / TILE, right = (b.rows + TILE - 1) / TILE, band = blockIdx.x / (8 * right);
	long long height = down - 8 * band < 8 ? down - 8 * band : 8, in = blockIdx.x - band * 8 * right;
	long long row = TILE * (8 * band + in % height), column = TILE * (in / height), steps = (k + STEP - 1) / STEP;
	Sums sums;
	UNROLL for (int i = 0; i < 4; i++)
		UNROLL for (int j = 0; j < 4; j++)
			UNROLL for (int e = 0; e < 4; e++) sums.d[i][j][e] = 0;
	UNROLL for (int s = 0; s < STAGES - 1; s++) {
		if (s < steps) {
			fetch_planes<TA>(shared + s * stage, a, row, s * STEP, k);
			fetch_planes<TB>(shared + s * stage + TA * PLANE_BYTES, b, column, s * STEP, k);
		}
		copy_commit();
	}
	int now = 0, next = STAGES - 1;
	for (long long s = 0; s < steps; s++) {
		copy_wait<STAGES - 2>();
		__syncthreads(); // the step has come in, and nobody reads the one that is fetched over
		if (s + STAGES - 1 < steps) {
			fetch_planes<TA>(shared + next * stage, a, row, (s + STAGES - 1) * STEP, k);
			fetch_planes<TB>(shared + next * stage + TA * PLANE_BYTES, b, column, (s + STAGES - 1) * STEP, k);
		}
		copy_commit();
		_Pragma("unroll 1") for (int half = 0; half < 2; half++) multiply<TA, TB>(sums, shared + now * stage, half);
		now = now + 1 == STAGES ? 0 : now + 1;
		next = next + 1 == STAGES ? 0 : next + 1;
	}
	row += warp() / 4 * 64 + lane() / 4;
	column += warp() % 4 * 32 + lane() % 4 * 2;
	UNROLL for (int i = 0; i < 4; i++)
		UNROLL for (int j = 0; j < 4; j++) {
			const float(&d)[4] = sums.d[i][j];
			put(c, ldc, row + 16 * i, column + 8 * j, a.rows, b.rows, beta, d[0], d[1]);
			put(c, ldc, row + 16 * i + 8, column + 8 * j, a.rows, b.rows, beta, d[2], d[3]);
		}
}

// gemm_11 multiplies values of bfloat16, gemm_22 those of IEEE half precision, gemm_33 those of f32, each in as many planes. Shared memory: 4
// stages of 16 KiB, 2 of 32 and 2 of 48.
BOUNDED(gemm_11, 256, 2)(float *c, const uint16_t *a, const uint16_t *b, long long plane_a, long long plane_b, int m, int n, long long k, long long lda,
                         long long ldb, long long ldc, float beta) {
	gemm_tile<1, 1, 4>(c, ldc, Operand{a, plane_a, lda, m}, Operand{b, plane_b, ldb, n}, k, beta);
}
EXPORT(gemm_11)

BOUNDED(gemm_22, 256, 1)(float *c, const uint16_t *a, const uint16_t *b, long long plane_a, long long plane_b, int m, int n, long long k, long long lda,
                         long long ldb, long long ldc, float beta) {
	gemm_tile<2, 2, 2>(c, ldc, Operand{a, plane_a, lda, m}, Operand{b, plane_b, ldb, n}, k, beta);
}
EXPORT(gemm_22)

BOUNDED(gemm_33, 256, 1)(float *c, const uint16_t *a, const uint16_t *b, long long plane_a, long long plane_b, int m, int n, long long k, long long lda,
                         long long ldb, long long ldc, float beta) {
	gemm_tile<3, 3, 2>(c, ldc, Operand{a, plane_a, lda, m}, Operand{b, plane_b, ldb, n}, k, beta);
}
EXPORT(gemm_33)
