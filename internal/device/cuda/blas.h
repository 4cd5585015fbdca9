// cuBLAS, whose functions are called by address: the program is not linked with it.
#pragma once
#include <stddef.h>

// What is called of cuBLAS, with its signatures (cublas_api.h); enumerations are ints.
struct blas {
	int (*create)(void **handle);
	int (*destroy)(void *handle);
	int (*set_stream)(void *handle, void *stream);
	int (*set_workspace)(void *handle, void *workspace, size_t bytes);
	int (*set_math)(void *handle, int mode);
	int (*property)(int which, int *value);
	int (*gemm)(void *handle, int transa, int transb, int m, int n, int k, const void *alpha, const void *a, int atype, int lda, const void *b,
	            int btype, int ldb, const void *beta, void *c, int ctype, int ldc, int compute, int algorithm);
};

// blas_open fills in the addresses of a library, and returns the name of a function that it lacks, else NULL.
const char *blas_open(struct blas *b, void *library);

// tf32_off keeps cuBLAS from multiplying f32 in fewer bits, whatever the environment says.
void tf32_off(void);

int blas_create(struct blas *b, void **handle);
int blas_destroy(struct blas *b, void *handle);
int blas_setup(struct blas *b, void *handle, void *stream, unsigned long long workspace, size_t bytes);
int blas_version(struct blas *b, int *major, int *minor, int *patch);

// blas_gemm: c = op(a)*op(b) + beta*c in the order of columns, c in f32, a and b of a cudaDataType each; sums are in f32.
int blas_gemm(struct blas *b, void *handle, int transa, int transb, int m, int n, int k, unsigned long long a, int atype, int lda,
              unsigned long long bp, int btype, int ldb, float beta, unsigned long long c, int ldc);
