//go:build cuda

#include "blas.h"
#include "shim.h"
#include <stdlib.h>

const char *blas_open(struct blas *b, void *library) {
	static const char *const names[] = {"cublasCreate_v2",   "cublasDestroy_v2",  "cublasSetStream_v2", "cublasSetWorkspace_v2",
	                                    "cublasSetMathMode", "cublasGetProperty", "cublasGemmEx"};
	_Static_assert(sizeof *b == sizeof names, "a name for each function");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (!(((void **)b)[i] = library_symbol(library, names[i]))) return names[i];
	}
	return NULL;
}

void tf32_off(void) { setenv("NVIDIA_TF32_OVERRIDE", "0", 1); }

int blas_create(struct blas *b, void **handle) { return b->create(handle); }
int blas_destroy(struct blas *b, void *handle) { return b->destroy(handle); }

int blas_setup(struct blas *b, void *handle, void *stream, unsigned long long workspace, size_t bytes) {
	enum { DEFAULT_MATH = 0, DISALLOW_REDUCED_PRECISION_REDUCTION = 16 };
	int status = b->set_stream(handle, stream); // sets the workspace back, so it comes first
	if (!status) status = b->set_workspace(handle, (void *)workspace, bytes);
	if (!status) status = b->set_math(handle, DEFAULT_MATH | DISALLOW_REDUCED_PRECISION_REDUCTION);
	return status;
}

int blas_version(struct blas *b, int *major, int *minor, int *patch) {
	int status = b->property(0, major);
	if (!status) status = b->property(1, minor);
	if (!status) status = b->property(2, patch);
	return status;
}

int blas_gemm(struct blas *b, void *handle, int transa, int transb, int m, int n, int k, unsigned long long a, int atype, int lda,
              unsigned long long bp, int btype, int ldb, float beta, unsigned long long c, int ldc) {
	enum { R_32F = 0, COMPUTE_32F = 68, ALGORITHM_DEFAULT = -1 };
	const float alpha = 1;
	return b->gemm(handle, transa, transb, m, n, k, &alpha, (void *)a, atype, lda, (void *)bp, btype, ldb, &beta, (void *)c, R_32F, ldc,
	               COMPUTE_32F, ALGORITHM_DEFAULT);
}
