// The factor of a damped Hessian, as calib.Factor has it: R·Rᵀ with R upper triangular. With the order of rows and columns reversed it is
// the Cholesky factorization P = Uᵀ·U, R[i,j] = U[n-1-j, n-1-i]. P and U stand on and above the diagonal of the matrix a [n, n] whose
// other half keeps the Hessian: no kernel writes there. Blocks of 64 rows are factored one after the other; the rest of the matrix is
// brought up to date in pieces that the host chooses.
#include "exact.cuh"

const int block_rows = 64;

// factor_fill sets the upper half to the damped Hessian: place i holds column order[n-1-i] (n-1-i where order is null). diagonal, by
// column, has the damping in it. Columns that are dead are independent of the rest.
KERNEL(factor_fill)(double *a, const double *diagonal, const unsigned char *dead, const int *order, int n) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= n) return;
	int cj = order ? order[n - 1 - j] : n - 1 - j;
	for (long long i = blockIdx.y; i <= j; i += gridDim.y) {
		int ci = order ? order[n - 1 - i] : n - 1 - i;
		double v = 0;
		if (i == j)
			v = diagonal[cj];
		else if (!dead[cj])
			v = ci > cj ? a[(long long)ci * n + cj] : a[(long long)cj * n + ci];
		a[i * n + j] = v;
	}
}
EXPORT(factor_fill)

// factor_block factors the block of count rows at k. failed is set, and nothing else done, where a pivot is no positive finite number; all
// kernels that follow do nothing then.
BOUNDED(factor_block, 256, 1)(double *a, int *failed, int n, int k, int count) {
	SHARED double s[block_rows][block_rows + 1];
	if (*failed) return;
	double *at = a + (long long)k * n + k;
	for (int t = threadIdx.x; t < count * count; t += blockDim.x) {
		int i = t / count, j = t % count;
		if (i <= j) s[i][j] = at[(long long)i * n + j];
	}
	__syncthreads();
	int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
	for (int p = 0; p < count; p++) {
		double d = s[p][p];
		if (!(d > 0) || !is_finite(d)) {
			if (threadIdx.x == 0) *failed = 1;
			return;
		}
		double root = sqrt(d);
		for (int j = p + 1 + threadIdx.x; j < count; j += blockDim.x) s[p][j] /= root;
		__syncthreads();
		if (threadIdx.x == 0) s[p][p] = root;
		for (int i = p + 1 + ty; i < count; i += 16) {
			double f = s[p][i];
			for (int j = p + 1 + tx; j < count; j += 16) {
				if (j >= i) s[i][j] -= f * s[p][j];
			}
		}
		__syncthreads();
	}
	for (int t = threadIdx.x; t < count * count; t += blockDim.x) {
		int i = t / count, j = t % count;
		if (i <= j) at[(long long)i * n + j] = s[i][j];
	}
}
EXPORT(factor_block)

// factor_solve sets the rows of the block at k, right of it, to U_kk⁻ᵀ times them, a thread for each column.
BOUNDED(factor_solve, 128, 4)(double *a, const int *failed, int n, int k) {
	SHARED double u[block_rows][block_rows];
	if (*failed) return;
	double *at = a + (long long)k * n + k;
	for (int t = threadIdx.x; t < block_rows * block_rows; t += blockDim.x) {
		int i = t / block_rows, j = t % block_rows;
		u[i][j] = i <= j ? at[(long long)i * n + j] : 0;
	}
	__syncthreads();
	int j = block_rows + blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= n - k) return;
	const int part = 16; // rows that are held at a time
	for (int p0 = 0; p0 < block_rows; p0 += part) {
		double x[part];
		UNROLL for (int p = 0; p < part; p++) x[p] = at[(long long)(p0 + p) * n + j];
		for (int q = 0; q < p0; q++) {
			double f = at[(long long)q * n + j];
			UNROLL for (int p = 0; p < part; p++) x[p] -= u[q][p0 + p] * f;
		}
		UNROLL for (int p = 0; p < part; p++) {
			x[p] /= u[p0 + p][p0 + p];
			UNROLL for (int q = p + 1; q < part; q++) x[q] -= u[p0 + p][p0 + q] * x[p];
			at[(long long)(p0 + p) * n + j] = x[p];
		}
	}
}
EXPORT(factor_solve)

// factor_update subtracts from a[i,j], i in [i0,i1) and j from i on, Σ_p a[p,i]*a[p,j] over the rows p in [p0, p0+depth), depth a multiple
// of 16 and the rows finished. A block has 64 by 64 elements, a thread 8 rows and every 16th column of them.
BOUNDED(factor_update, 128, 3)(double *a, const int *failed, int n, int i0, int i1, int p0, int depth) {
	const int size = 64, step = 16;
	SHARED double left[step][size], right[step][size];
	int bi = i0 + size * blockIdx.y, bj = i0 + size * blockIdx.x;
	if (bj < bi || *failed) return;
	int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
	double sum[8][4] = {};
	int col = threadIdx.x % size, row = threadIdx.x / size; // what a thread copies: every second row of a step
	const double *from = a + (long long)p0 * n;
	double nl[step / 2], nr[step / 2];
	auto fetch = [&](int p) {
		UNROLL for (int s = 0; s < step / 2; s++) {
			const double *r = from + (long long)(p + row + 2 * s) * n;
			nl[s] = bi + col < i1 ? r[bi + col] : 0;
			nr[s] = bj + col < n ? r[bj + col] : 0;
		}
	};
	fetch(0);
	for (int p = 0; p < depth; p += step) {
		__syncthreads();
		UNROLL for (int s = 0; s < step / 2; s++) left[row + 2 * s][col] = nl[s], right[row + 2 * s][col] = nr[s];
		__syncthreads();
		if (p + step < depth) fetch(p + step);
		UNROLL for (int q = 0; q < step; q++) {
			double x[8], y[4];
			UNROLL for (int r = 0; r < 8; r++) x[r] = left[q][8 * ty + r];
			UNROLL for (int c = 0; c < 4; c++) y[c] = right[q][tx + 16 * c];
			UNROLL for (int r = 0; r < 8; r++) {
				UNROLL for (int c = 0; c < 4; c++) sum[r][c] += x[r] * y[c];
			}
		}
	}
	UNROLL for (int r = 0; r < 8; r++) {
		int i = bi + 8 * ty + r;
		UNROLL for (int c = 0; c < 4; c++) {
			int j = bj + tx + 16 * c;
			if (i < i1 && j < n && j >= i) a[(long long)i * n + j] -= sum[r][c];
		}
	}
}
EXPORT(factor_update)

// factor_roots copies the diagonal of R.
KERNEL(factor_roots)(double *root, const double *a, int n) {
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n) root[i] = a[(long long)(n - 1 - i) * n + n - 1 - i];
}
EXPORT(factor_roots)

// factor_panel sets dst [count, i1] to columns [i1, i1+count) of A = R·diag(R)⁻¹ above row i1, each as a row.
KERNEL(factor_panel)(float *dst, const double *a, int n, int i1, int count) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= i1) return;
	for (int k = blockIdx.y; k < count; k += gridDim.y) {
		const double *row = a + (long long)(n - 1 - i1 - k) * n;
		dst[(long long)k * i1 + j] = mul(row[n - 1 - j], 1 / row[n - 1 - i1 - k]);
	}
}
EXPORT(factor_panel)

// factor_corner sets dst [size, size] to rows and columns [i1, i1+count) of A above the diagonal, 0 elsewhere.
KERNEL(factor_corner)(float *dst, const double *a, int n, int i1, int count, int size) {
	int j = blockIdx.x, k = threadIdx.x;
	float v = 0;
	if (j < k && k < count) {
		const double *row = a + (long long)(n - 1 - i1 - k) * n;
		v = mul(row[n - 1 - i1 - j], 1 / row[n - 1 - i1 - k]);
	}
	dst[j * size + k] = v;
}
EXPORT(factor_corner)
