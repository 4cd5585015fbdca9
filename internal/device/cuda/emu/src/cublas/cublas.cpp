// The part of cuBLAS that the device uses, on the emulated driver. Calls are queued on the stream of the handle; arguments are checked as
// the documentation says (cuBLAS Library, 2.1 and 2.8).
#pragma GCC visibility push(default)
#define CUBLASAPI
#include <cublas_api.h>
#pragma GCC visibility pop

#include <mutex>
#include <set>

#include "gemm.h"
#include "settings.h"
#include "work.h"

using namespace emu;

namespace {

struct Handle {
	void *stream = nullptr;
	void *workspace = nullptr;
	size_t bytes = 0;
	int math = CUBLAS_DEFAULT_MATH;
	bool host_scalars = true;
};

std::mutex mutex;
std::set<Handle *> handles;

Handle *find(cublasHandle_t h) {
	std::lock_guard<std::mutex> lock(mutex);
	Handle *p = reinterpret_cast<Handle *>(h);
	return handles.count(p) ? p : nullptr;
}

bool type_of(cudaDataType t, Type &type) {
	if (t == CUDA_R_32F) type = Type::f32;
	if (t == CUDA_R_16F) type = Type::f16;
	if (t == CUDA_R_16BF) type = Type::bf16;
	return t == CUDA_R_32F || t == CUDA_R_16F || t == CUDA_R_16BF;
}

size_t bytes_of(Type t) { return t == Type::f32 ? 4 : 2; }

// operand is op(x) of rows x columns, and checks the memory that it is in.
Operand operand(const char *name, const void *p, Type type, int ld, cublasOperation_t op, int rows, int columns, bool tf32) {
	bool turned = op != CUBLAS_OP_N;
	int stored_rows = turned ? columns : rows, stored_columns = turned ? rows : columns;
	if (stored_rows && stored_columns)
		check_device("cublasGemmEx", name, p, ((size_t)(stored_columns - 1) * ld + stored_rows) * bytes_of(type));
	return Operand{p, type, turned ? (size_t)ld : 1, turned ? 1 : (size_t)ld, tf32};
}

bool is_operation(cublasOperation_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C; }

} // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
	if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
	if (int code = fault("blas")) return (cublasStatus_t)code;
	if (enqueue(nullptr, "cublasCreate", [] { return 0; })) return CUBLAS_STATUS_NOT_INITIALIZED;
	auto *h = new Handle;
	std::lock_guard<std::mutex> lock(mutex);
	handles.insert(h);
	*handle = reinterpret_cast<cublasHandle_t>(h);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
	Handle *h = find(handle);
	if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
	std::lock_guard<std::mutex> lock(mutex);
	handles.erase(h);
	delete h;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int *version) {
	if (!find(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!version) return CUBLAS_STATUS_INVALID_VALUE;
	*version = 120600;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetProperty(libraryPropertyType which, int *value) {
	if (!value || which < MAJOR_VERSION || which > PATCH_LEVEL) return CUBLAS_STATUS_INVALID_VALUE;
	*value = which == MAJOR_VERSION ? 12 : which == MINOR_VERSION ? 6 : 0;
	return CUBLAS_STATUS_SUCCESS;
}

// A new stream takes the workspace back (cublasSetStream).
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
	Handle *h = find(handle);
	if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
	h->stream = stream;
	h->workspace = nullptr;
	h->bytes = 0;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes) {
	Handle *h = find(handle);
	if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
	if ((uintptr_t)workspace % 256) return CUBLAS_STATUS_INVALID_VALUE;
	if (bytes) check_device("cublasSetWorkspace", "workspace", workspace, bytes);
	h->workspace = workspace;
	h->bytes = bytes;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
	Handle *h = find(handle);
	if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
	if ((mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) > CUBLAS_TF32_TENSOR_OP_MATH) return CUBLAS_STATUS_INVALID_VALUE;
	h->math = mode;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
	Handle *h = find(handle);
	if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
	h->host_scalars = mode == CUBLAS_POINTER_MODE_HOST;
	return CUBLAS_STATUS_SUCCESS;
}

// f32 operands are multiplied as TF32 where the math mode or the type of the computation allows that, so that a product which must be in
// f32 shows it. Split sums in 16 bits, which a math mode can allow too, are for 16-bit results; there are none here.
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k, const void *alpha,
                            const void *A, cudaDataType Atype, int lda, const void *B, cudaDataType Btype, int ldb, const void *beta, void *C,
                            cudaDataType Ctype, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t) {
	Handle *h = find(handle);
	if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!is_operation(transa) || !is_operation(transb) || m < 0 || n < 0 || k < 0 || !alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
	int arows = transa == CUBLAS_OP_N ? m : k, brows = transb == CUBLAS_OP_N ? k : n;
	if (lda < (arows > 1 ? arows : 1) || ldb < (brows > 1 ? brows : 1) || ldc < (m > 1 ? m : 1)) return CUBLAS_STATUS_INVALID_VALUE;
	Type type, other;
	bool fast = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
	if (!type_of(Atype, type) || !type_of(Btype, other) || type != other || Ctype != CUDA_R_32F || !h->host_scalars) return CUBLAS_STATUS_NOT_SUPPORTED;
	if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC && !fast) return CUBLAS_STATUS_NOT_SUPPORTED;
	if (int code = fault("blas")) return (cublasStatus_t)code;
	if (!m || !n) return CUBLAS_STATUS_SUCCESS;
	bool tf32 = fast || (h->math & 3) == CUBLAS_TF32_TENSOR_OP_MATH;
	float a1 = *static_cast<const float *>(alpha), b1 = *static_cast<const float *>(beta);
	void *workspace = h->workspace;
	size_t bytes = h->bytes;
	auto work = [=] {
		Operand a = operand("A", A, type, lda, transa, m, k, tf32), b = operand("B", B, type, ldb, transb, k, n, tf32);
		check_device("cublasGemmEx", "C", C, ((size_t)(n - 1) * ldc + m) * 4);
		if (bytes) scribble(workspace, bytes);
		multiply(static_cast<float *>(C), ldc, a, b, m, n, k, a1, b1);
		return 0;
	};
	return enqueue(h->stream, "cublasGemmEx", work) ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}
}
