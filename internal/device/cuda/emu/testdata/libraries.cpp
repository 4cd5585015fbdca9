// Tests of cuBLAS and of the conversions that they and kernels share, against plain loops.
#include "probe.h"

#define CUBLASAPI
#include <cublas_api.h>
#include "halves.h"

// Matrix is in the order of columns, with values that its type holds.
struct Matrix {
	int rows, columns, ld;
	std::vector<float> x;
	Matrix(int rows, int columns, int more, unsigned seed) : rows(rows), columns(columns), ld(rows + more > 0 ? rows + more : 1), x(normal((size_t)ld * columns, seed)) {}
	float &at(int i, int j) { return x[(size_t)j * ld + i]; }
	float &at(bool turned, int i, int j) { return turned ? at(j, i) : at(i, j); }
	// stored rounds the values to a type and returns them as the device has them.
	std::vector<char> stored(cudaDataType type) {
		std::vector<char> bytes(x.size() * (type == CUDA_R_32F ? 4 : 2));
		for (size_t i = 0; i < x.size(); i++) {
			if (type == CUDA_R_32F) {
				memcpy(&bytes[4 * i], &x[i], 4);
				continue;
			}
			uint16_t h = type == CUDA_R_16F ? f16_from(x[i]) : bf16_from(x[i]);
			x[i] = type == CUDA_R_16F ? f16_to(h) : bits_float((uint32_t)h << 16);
			memcpy(&bytes[2 * i], &h, 2);
		}
		return bytes;
	}
};

static cublasHandle_t blas;


struct Case {
	int m, n, k;
	bool ta, tb;
	cudaDataType type;
	float alpha, beta;
	int more; // rows between columns
	cublasComputeType_t compute;
};

// product compares with sums in double; it returns the largest error by the size of the terms.
static double product(const Case &t) {
	Matrix a(t.ta ? t.k : t.m, t.ta ? t.m : t.k, t.more, 1), b(t.tb ? t.n : t.k, t.tb ? t.k : t.n, t.more, 2), c(t.m, t.n, t.more, 3);
	Device<char> da(a.stored(t.type)), db(b.stored(t.type));
	if (t.beta == 0)
		for (auto &v : c.x) v = NAN; // must not be read
	Device<float> dc(c.x);
	float alpha = t.alpha, beta = t.beta;
	CHECK(cublasGemmEx(blas, t.ta ? CUBLAS_OP_T : CUBLAS_OP_N, t.tb ? CUBLAS_OP_T : CUBLAS_OP_N, t.m, t.n, t.k, &alpha, (char *)da, t.type, a.ld,
	                   (char *)db, t.type, b.ld, &beta, (float *)dc, CUDA_R_32F, c.ld, t.compute, CUBLAS_GEMM_DEFAULT));
	alpha = beta = 99; // they are read at the call
	auto got = dc.get();
	double worst = 0;
	for (int j = 0; j < t.n; j++)
		for (int i = 0; i < c.ld; i++) {
			float was = c.at(i, j), is = got[(size_t)j * c.ld + i];
			if (i >= t.m) { // between columns
				EXPECT(is == was || (std::isnan(is) && std::isnan(was)));
				continue;
			}
			double s = 0, size = 1e-30;
			for (int p = 0; p < t.k; p++) {
				double x = (double)a.at(t.ta, i, p) * b.at(t.tb, p, j);
				s += x;
				size += fabs(x);
			}
			double old = t.beta == 0 ? 0 : t.beta * (double)was, error = fabs(is - t.alpha * s - old) / (fabs(t.alpha) * size + fabs(old));
			EXPECT(error == error);
			if (error > worst) worst = error;
		}
	return worst;
}

static void products() {
	CHECK(cublasCreate_v2(&blas));
	Device<char> workspace(1 << 20);
	CHECK(cublasSetWorkspace_v2(blas, (char *)workspace, 1 << 20));
	for (cudaDataType type : {CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF})
		for (int turns = 0; turns < 4; turns++)
			for (int size = 0; size < 4; size++) {
				const int sizes[4][3] = {{1, 1, 1}, {17, 7, 5}, {64, 48, 300}, {261, 250, 33}};
				const int *s = sizes[size];
				Case t = {s[0], s[1], s[2], (turns & 1) != 0, (turns & 2) != 0, type, 1, 0, size, CUBLAS_COMPUTE_32F};
				EXPECT(product(t) < (t.k + 4) * 0x1p-24);
				t.alpha = -0.5f;
				t.beta = 2;
				EXPECT(product(t) < (t.k + 4) * 0x1p-24);
			}
	EXPECT(product({5, 4, 0, false, false, CUDA_R_32F, 1, 3, 0, CUBLAS_COMPUTE_32F}) < 0x1p-23);
	EXPECT(product({5, 4, 0, false, false, CUDA_R_32F, 1, 0, 0, CUBLAS_COMPUTE_32F}) == 0);
	// Ten bits of f32 where the mode or the computation allows it, and none where not.
	Case t = {32, 32, 8, false, false, CUDA_R_32F, 1, 0, 0, CUBLAS_COMPUTE_32F_FAST_TF32};
	EXPECT(product(t) > 0x1p-14);
	t.compute = CUBLAS_COMPUTE_32F;
	EXPECT(product(t) < 0x1p-21);
	CHECK(cublasSetMathMode(blas, CUBLAS_TF32_TENSOR_OP_MATH));
	EXPECT(product(t) > 0x1p-14);
	CHECK(cuMemsetD8(workspace.p, 0, 1 << 20));
	product(t);
	EXPECT((unsigned char)workspace.get()[0] == 0xff); // it is overwritten
}

static void refusals() {
	int version;
	Device<float> x(100);
	float one = 1, *p = x;
	auto gemm = [&](cublasHandle_t h, int m, int n, int k, int lda, int ldb, int ldc, cudaDataType type, const float *alpha) {
		return cublasGemmEx(h, CUBLAS_OP_N, CUBLAS_OP_T, m, n, k, alpha, p, type, lda, p, type, ldb, &one, p, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F,
		                    CUBLAS_GEMM_DEFAULT);
	};
	WANT(CUBLAS_STATUS_NOT_INITIALIZED, gemm(nullptr, 2, 2, 2, 2, 2, 2, CUDA_R_32F, &one));
	CHECK(cublasCreate_v2(&blas));
	CHECK(cublasGetVersion_v2(blas, &version));
	EXPECT(version / 10000 == 12);
	CHECK(gemm(blas, 3, 2, 4, 3, 2, 3, CUDA_R_32F, &one));
	CHECK(gemm(blas, 0, 2, 4, 1, 2, 1, CUDA_R_32F, &one));
	WANT(CUBLAS_STATUS_INVALID_VALUE, gemm(blas, -1, 2, 4, 3, 2, 3, CUDA_R_32F, &one));
	WANT(CUBLAS_STATUS_INVALID_VALUE, gemm(blas, 3, 2, 4, 2, 2, 3, CUDA_R_32F, &one));
	WANT(CUBLAS_STATUS_INVALID_VALUE, gemm(blas, 3, 2, 4, 3, 1, 3, CUDA_R_32F, &one));
	WANT(CUBLAS_STATUS_INVALID_VALUE, gemm(blas, 3, 2, 4, 3, 2, 2, CUDA_R_32F, &one));
	WANT(CUBLAS_STATUS_INVALID_VALUE, gemm(blas, 3, 2, 4, 3, 2, 3, CUDA_R_32F, nullptr));
	WANT(CUBLAS_STATUS_NOT_SUPPORTED, gemm(blas, 3, 2, 4, 3, 2, 3, CUDA_R_8I, &one));
	WANT(CUBLAS_STATUS_INVALID_VALUE, cublasSetWorkspace_v2(blas, p + 1, 4));
	CHECK(cublasDestroy_v2(blas));
	WANT(CUBLAS_STATUS_NOT_INITIALIZED, cublasDestroy_v2(blas));
	WANT(CUBLAS_STATUS_NOT_INITIALIZED, gemm(blas, 3, 2, 4, 3, 2, 3, CUDA_R_32F, &one));
}

// outside has a product read past its memory.
static void outside() {
	CHECK(cublasCreate_v2(&blas));
	Device<float> x(100), y(100);
	float one = 1, zero = 0;
	CHECK(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, 10, 10, 10, &one, (float *)x + 1, CUDA_R_32F, 10, (float *)x, CUDA_R_32F, 10, &zero, (float *)y,
	                   CUDA_R_32F, 10, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
	CHECK(cuCtxSynchronize());
}

// nearest reports whether y is the value nearest to x of a format with that many bits and that least exponent, even in the middle.
static bool nearest(float x, double y, int bits, int least) {
	int e;
	frexp((double)x, &e);
	double unit = ldexp(1, (e - 1 < least ? least : e - 1) - (bits - 1));
	return y == nearbyint(x / unit) * unit;
}

static void conversions() {
	for (uint32_t h = 0; h < 65536; h++) {
		float x = f16_to((uint16_t)h);
		int e = (int)(h >> 10 & 31), f = (int)(h & 1023);
		if (e == 31) {
			EXPECT(f ? float_bits(x) == 0x7fffffff : x == (h >> 15 ? -INFINITY : INFINITY));
			continue;
		}
		EXPECT(x == (h >> 15 ? -1 : 1) * (e ? ldexp(1024 + f, e - 25) : ldexp(f, -24)) && std::signbit(x) == (h >> 15));
		EXPECT(f16_from(x) == h);
	}
	for (uint64_t b = 0; b < 1ull << 32; b += 4093) {
		float x = bits_float((uint32_t)b);
		uint16_t h = f16_from(x), w = bf16_from(x);
		if (x != x) {
			EXPECT(h == 0x7fff && w == 0x7fff);
			continue;
		}
		double y = f16_to(h), z = bits_float((uint32_t)w << 16);
		EXPECT(std::signbit(y) == std::signbit(x) && std::signbit(z) == std::signbit(x));
		if (fabs(x) >= 65520) {
			EXPECT(fabs(y) == INFINITY);
		} else {
			EXPECT(nearest(x, y, 11, -14));
		}
		if (fabs(x) >= 0x1.ffp127) {
			EXPECT(fabs(z) == INFINITY);
		} else {
			EXPECT(nearest(x, z, 8, -126));
		}
	}
	for (uint32_t b : {0x3f808000u, 0x3f818000u, 0x3f808001u, 0x3f807fffu}) EXPECT(nearest(bits_float(b), bits_float((uint32_t)bf16_from(bits_float(b)) << 16), 8, -126));
	EXPECT(bf16_pair(1, 2) == 0x40003f80);
}

int main(int argc, char **argv) {
	start();
	return run_test({{"products", products}, {"refusals", refusals}, {"outside", outside}, {"conversions", conversions}}, argc, argv);
}
