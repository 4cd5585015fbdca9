// The part of cuSOLVER that the device uses, on the emulated driver.
#include <math.h>

#include <mutex>
#include <set>
#pragma GCC visibility push(default)
#include <cusolverDn.h>
#pragma GCC visibility pop

#include "settings.h"
#include "work.h"

using namespace emu;

namespace {

struct Handle {
	void *stream = nullptr;
};

std::mutex mutex;
std::set<Handle *> handles;

Handle *find(cusolverDnHandle_t h) {
	std::lock_guard<std::mutex> lock(mutex);
	Handle *p = reinterpret_cast<Handle *>(h);
	return handles.count(p) ? p : nullptr;
}

// lower: a = L·Lᵀ in the order of columns, by columns. It returns the number of the first minor that is not positive, 0 for none.
int lower(double *a, size_t n, size_t ld) {
	for (size_t j = 0; j < n; j++) {
		double *aj = a + j * ld;
		for (size_t k = 0; k < j; k++) {
			const double *ak = a + k * ld;
			double x = ak[j];
			for (size_t i = j; i < n; i++) aj[i] -= x * ak[i];
		}
		if (!(aj[j] > 0)) return (int)j + 1;
		double root = sqrt(aj[j]);
		aj[j] = root;
		for (size_t i = j + 1; i < n; i++) aj[i] /= root;
	}
	return 0;
}

// upper: a = Uᵀ·U, the same from dot products of columns.
int upper(double *a, size_t n, size_t ld) {
	for (size_t j = 0; j < n; j++) {
		double *aj = a + j * ld;
		for (size_t i = 0; i <= j; i++) {
			const double *ai = a + i * ld;
			double s = aj[i];
			for (size_t k = 0; k < i; k++) s -= ai[k] * aj[k];
			if (i < j) {
				aj[i] = s / ai[i];
				continue;
			}
			if (!(s > 0)) return (int)j + 1;
			aj[j] = sqrt(s);
		}
	}
	return 0;
}

bool valid(cublasFillMode_t uplo, int n, int lda) {
	return (uplo == CUBLAS_FILL_MODE_LOWER || uplo == CUBLAS_FILL_MODE_UPPER) && n >= 0 && lda >= (n > 1 ? n : 1);
}

int workspace(int n) { return 64 * n + 64; }

} // namespace

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle) {
	if (!handle) return CUSOLVER_STATUS_INVALID_VALUE;
	if (int code = fault("solver")) return (cusolverStatus_t)code;
	if (enqueue(nullptr, "cusolverDnCreate", [] { return 0; })) return CUSOLVER_STATUS_NOT_INITIALIZED;
	auto *h = new Handle;
	std::lock_guard<std::mutex> lock(mutex);
	handles.insert(h);
	*handle = reinterpret_cast<cusolverDnHandle_t>(h);
	return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
	Handle *h = find(handle);
	if (!h) return CUSOLVER_STATUS_NOT_INITIALIZED;
	std::lock_guard<std::mutex> lock(mutex);
	handles.erase(h);
	delete h;
	return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
	Handle *h = find(handle);
	if (!h) return CUSOLVER_STATUS_NOT_INITIALIZED;
	h->stream = stream;
	return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDpotrf_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t uplo, int n, double *, int lda, int *size) {
	if (!find(handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
	if (!valid(uplo, n, lda) || !size) return CUSOLVER_STATUS_INVALID_VALUE;
	*size = workspace(n);
	return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDpotrf(cusolverDnHandle_t handle, cublasFillMode_t uplo, int n, double *A, int lda, double *work, int size, int *info) {
	Handle *h = find(handle);
	if (!h) return CUSOLVER_STATUS_NOT_INITIALIZED;
	if (!valid(uplo, n, lda) || size < workspace(n)) return CUSOLVER_STATUS_INVALID_VALUE;
	if (int code = fault("solver")) return (cusolverStatus_t)code;
	auto run = [=] {
		const char *name = "cusolverDnDpotrf";
		if (n) check_device(name, "A", A, ((size_t)(n - 1) * lda + n) * sizeof(double));
		check_device(name, "the workspace", work, size * sizeof(double));
		check_device(name, "info", info, sizeof(int));
		scribble(work, size * sizeof(double));
		*info = uplo == CUBLAS_FILL_MODE_LOWER ? lower(A, n, lda) : upper(A, n, lda);
		return 0;
	};
	return enqueue(h->stream, "cusolverDnDpotrf", run) ? CUSOLVER_STATUS_EXECUTION_FAILED : CUSOLVER_STATUS_SUCCESS;
}
}
