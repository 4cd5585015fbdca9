// Second moments h [n, n] in f64, of which the half on and below the diagonal is used, and what is asked of them. The other half is the
// room of a factor (cholesky.cu), which also takes the diagonal: kernels that read h after that are given the diagonal apart.
#include "exact.cuh"

// gram_rows sets dst [rows, n] to x, each row times its weight.
KERNEL(gram_rows)(float *dst, const float *x, const float *weights, int rows, int n) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= n) return;
	for (long long i = blockIdx.y; i < rows; i += gridDim.y) dst[i * n + j] = x[i * n + j] * weights[i];
}
EXPORT(gram_rows)

// gram_add adds a product [count, i0+count] to rows [i0, i0+count) of h, on and below the diagonal.
KERNEL(gram_add)(double *h, const float *product, int n, int i0, int count) {
	int j = blockIdx.x * blockDim.x + threadIdx.x, width = i0 + count;
	for (long long i = blockIdx.y; i < count; i += gridDim.y) {
		if (j <= i0 + i) h[(i0 + i) * n + j] += product[i * width + j];
	}
}
EXPORT(gram_add)

// gram_scale multiplies h and copies its diagonal.
KERNEL(gram_scale)(double *h, double *diagonal, double scale, int n) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	for (long long i = blockIdx.y; i < n; i += gridDim.y) {
		if (j > i) continue;
		double v = h[i * n + j] * scale;
		h[i * n + j] = v;
		if (j == i) diagonal[i] = v;
	}
}
EXPORT(gram_scale)

// first_of is the least of the indices of a warp.
DEVICE int first_of(int i) {
	for (int d = 16; d > 0; d /= 2) {
		int other = __shfl_xor_sync(0xffffffffu, i, d);
		i = other < i ? other : i;
	}
	return i;
}

const int nowhere = 0x7fffffff;

// gram_check finds the first column on or below the diagonal that is not finite, in each row; nowhere where there is none. A warp for each.
KERNEL(gram_check)(int *first, const double *h, const double *diagonal, int n) {
	long long i = (long long)blockIdx.x * (blockDim.x / 32) + warp();
	if (i >= n) return;
	int at = nowhere;
	for (int j = lane(); j <= i; j += 32) {
		double v = j == i ? diagonal[i] : h[i * n + j];
		if (at == nowhere && !is_finite(v)) at = j;
	}
	at = first_of(at);
	if (lane() == 0) first[i] = at;
}
EXPORT(gram_check)

// matrix_check does that for each row of a matrix [rows, n] of a kind.
KERNEL(matrix_check)(int *first, const void *x, int kind, int rows, int n) {
	long long i = (long long)blockIdx.x * (blockDim.x / 32) + warp();
	if (i >= rows) return;
	int at = nowhere;
	for (int j = lane(); j < n; j += 32) {
		if (at == nowhere && !is_finite(element(x, kind, i * n + j))) at = j;
	}
	at = first_of(at);
	if (lane() == 0) first[i] = at;
}
EXPORT(matrix_check)

// energy_panel sets dst [n-j, count] to columns [j, j+count) of D + 2·S, rows from j on: D is the blocks of size count on the diagonal,
// of which that at j is, and S what lies below them.
KERNEL(energy_panel)(float *dst, const double *h, const double *diagonal, int n, int j, int count) {
	int k = threadIdx.x;
	if (k >= count) return;
	for (long long i = blockIdx.x; i < n - j; i += gridDim.x) {
		double v;
		if (i >= count)
			v = 2 * h[(j + i) * n + j + k];
		else if (k == i)
			v = diagonal[j + i];
		else
			v = k < i ? h[(j + i) * n + j + k] : h[((long long)j + k) * n + j + i];
		dst[i * count + k] = v;
	}
}
EXPORT(energy_panel)

// energy_rows adds to sums[r] the products of columns [j, j+count) of row r of x [rows, n] and row r of y [rows, count], in f64. A warp
// for each row.
KERNEL(energy_rows)(double *sums, const float *x, const float *y, int rows, int n, int j, int count) {
	long long r = (long long)blockIdx.x * (blockDim.x / 32) + warp();
	if (r >= rows) return;
	double sum = 0;
	for (int k = lane(); k < count; k += 32) sum += mul((double)x[r * n + j + k], (double)y[r * count + k]);
	sum = warp_sum(sum);
	if (lane() == 0) sums[r] += sum;
}
EXPORT(energy_rows)

// distance_rows sets, for each row of a and b [rows, n] of some kinds, far to Σ (a-b)² and size to Σ a², in f64. A warp for each row.
KERNEL(distance_rows)(double *far, double *size, const void *a, int kind_a, const void *b, int kind_b, int rows, int n) {
	long long r = (long long)blockIdx.x * (blockDim.x / 32) + warp();
	if (r >= rows) return;
	double sum = 0, all = 0;
	for (int j = lane(); j < n; j += 32) {
		double x = element(a, kind_a, r * n + j), d = x - (double)element(b, kind_b, r * n + j);
		sum += mul(d, d);
		all += mul(x, x);
	}
	sum = warp_sum(sum), all = warp_sum(all);
	if (lane() == 0) far[r] = sum, size[r] = all;
}
EXPORT(distance_rows)

// matrix_difference sets dst to a-b, count elements of some kinds; b may be null.
KERNEL(matrix_difference)(float *dst, const void *a, int kind_a, const void *b, int kind_b, long long count) {
	long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (i < count) dst[i] = b ? element(a, kind_a, i) - element(b, kind_b, i) : element(a, kind_a, i);
}
EXPORT(matrix_difference)
