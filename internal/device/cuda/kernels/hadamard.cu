// Products with orthogonal matrices in f64: the fast Walsh-Hadamard transform with a small Paley factor, and matrices that are given. Each
// operation is that of package num, in its order, so that the bits are the same. An array is [outer, blocks, n, inner] here: the
// matrices, [n, n] each, one for each of blocks, act along n.
#include "exact.cuh"

// mix_load sets x [rows, count] to columns [c0, c0+count) of w [rows, cols], times the gain of the column; gain may be null.
KERNEL(mix_load)(double *x, const float *w, const float *gain, int rows, int cols, int c0, int count) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= count) return;
	double g = gain ? gain[c0 + j] : 1;
	for (long long r = blockIdx.y; r < rows; r += gridDim.y) x[r * count + j] = mul((double)w[r * cols + c0 + j], g);
}
EXPORT(mix_load)

// mix_store sets those columns of w to x.
KERNEL(mix_store)(float *w, const double *x, int rows, int cols, int c0, int count) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= count) return;
	for (long long r = blockIdx.y; r < rows; r += gridDim.y) w[r * cols + c0 + j] = x[r * count + j];
}
EXPORT(mix_store)

// mix_scale multiplies x by factor and by the signs [blocks, n], which may be null.
KERNEL(mix_scale)(double *x, const double *signs, double factor, long long total, int blocks, int n, long long inner) {
	long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (i >= total) return;
	double s = signs ? signs[i / inner % ((long long)blocks * n)] : 1;
	x[i] = mul(mul(x[i], s), factor);
}
EXPORT(mix_scale)

// levels combines LEVELS levels of the transform: those at distances h, 2h and so on along n, for a segment of 2^LEVELS values.
template <int LEVELS>
DEVICE void levels(double *x, long long total, int h, long long inner) {
	const int size = 1 << LEVELS;
	long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (t >= total / size) return;
	long long in = t % inner, u = t / inner, step = h * inner;
	double *from = x + (u / h * size * h + u % h) * inner + in;
	double v[size];
	UNROLL for (int i = 0; i < size; i++) v[i] = from[i * step];
	UNROLL for (int d = 1; d < size; d *= 2) {
		UNROLL for (int i = 0; i < size; i++) {
			if (i & d) continue;
			double a = v[i], b = v[i + d];
			v[i] = a + b, v[i + d] = a - b;
		}
	}
	UNROLL for (int i = 0; i < size; i++) from[i * step] = v[i];
}

KERNEL(mix_walsh_1)(double *x, long long total, int h, long long inner) { levels<1>(x, total, h, inner); }
EXPORT(mix_walsh_1)
KERNEL(mix_walsh_2)(double *x, long long total, int h, long long inner) { levels<2>(x, total, h, inner); }
EXPORT(mix_walsh_2)
KERNEL(mix_walsh_3)(double *x, long long total, int h, long long inner) { levels<3>(x, total, h, inner); }
EXPORT(mix_walsh_3)
KERNEL(mix_walsh_4)(double *x, long long total, int h, long long inner) { levels<4>(x, total, h, inner); }
EXPORT(mix_walsh_4)

const int chain = 256; // values that are summed before the sum is added to the rest

// mix_paley sets y to the product with p ⊗ I along n: segment j of the k of n is Σ_i p[i,j]*segment i.
KERNEL(mix_paley)(double *y, const double *x, const double *p, long long total, int n, int k, long long inner) {
	long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
	if (i >= total) return;
	long long segment = n / k * inner, block = i / (n * inner) * (n * inner);
	int j = i % (n * inner) / segment;
	const double *from = x + block + i % segment;
	double all = 0;
	for (int a = 0; a < k; a += chain) {
		double sum = 0;
		for (int b = a; b < k && b < a + chain; b++) sum = fma(p[b * k + j], from[b * segment], sum);
		all += sum;
	}
	y[i] = all;
}
EXPORT(mix_paley)

// mix_product computes c[i,j] = Σ_l a(i,l)*b(l,j) for c [m, n], rows of ldc; a(i,l) is a[i*ai + l*al], b(l,j) is b[l*bl + j*bj]. A block has
// 64 by 64 elements, a thread 8 rows and every 16th column of them.
BOUNDED(mix_product, 128, 2)
(double *c, const double *a, const double *b, int m, int n, int depth, long long ldc, long long ai, long long al, long long bl, long long bj) {
	const int size = 64, step = 16;
	SHARED double left[step][size], right[step][size];
	int bi = size * blockIdx.y, first = size * blockIdx.x, ty = threadIdx.x / 16, tx = threadIdx.x % 16;
	double all[8][4] = {}, sum[8][4] = {};
	for (int l0 = 0; l0 < depth; l0 += step) {
		__syncthreads();
		for (int t = threadIdx.x; t < step * size; t += blockDim.x) {
			int p = t / size, q = t % size;
			left[p][q] = l0 + p < depth && bi + q < m ? a[(bi + q) * ai + (l0 + p) * al] : 0;
			right[p][q] = l0 + p < depth && first + q < n ? b[(l0 + p) * bl + (first + q) * bj] : 0;
		}
		__syncthreads();
		for (int p = 0; p < step; p++) {
			UNROLL for (int r = 0; r < 8; r++) {
				UNROLL for (int s = 0; s < 4; s++) sum[r][s] = fma(left[p][8 * ty + r], right[p][tx + 16 * s], sum[r][s]);
			}
		}
		if ((l0 + step) % chain != 0 && l0 + step < depth) continue;
		UNROLL for (int r = 0; r < 8; r++) {
			UNROLL for (int s = 0; s < 4; s++) all[r][s] += sum[r][s], sum[r][s] = 0;
		}
	}
	UNROLL for (int r = 0; r < 8; r++) {
		UNROLL for (int s = 0; s < 4; s++) {
			int i = bi + 8 * ty + r, j = first + tx + 16 * s;
			if (i < m && j < n) c[i * ldc + j] = all[r][s];
		}
	}
}
EXPORT(mix_product)
