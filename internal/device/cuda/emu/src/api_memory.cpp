// Memory and copies of the emulated driver.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "memory.h"

using namespace emu;

namespace {

// Side is one end of a copy.
struct Side {
	char *p;
	bool device;
};

Side at(CUdeviceptr p) { return Side{reinterpret_cast<char *>(p), true}; }
Side at(const void *p) { return Side{static_cast<char *>(const_cast<void *>(p)), false}; }

bool within(const Side &s, size_t n) { return !s.device || in_device(s.p, n) || is_pinned(s.p, n); }

// copy queues a copy. The host's memory is read or written when the copy runs, where it is pinned; else it is read at once, and a copy
// to it has been done on return (CUDA Driver API, "API synchronization behavior").
CUresult copy(Side to, Side from, size_t n, const std::shared_ptr<Stream> &s, bool wait) {
	if (!s) return CUDA_ERROR_INVALID_HANDLE;
	if (n == 0) return CUDA_SUCCESS;
	if (!to.p || !from.p || !within(to, n) || !within(from, n)) return CUDA_ERROR_INVALID_VALUE;
	int code = fault("copy");
	if (code && !is_sticky(code)) return (CUresult)code;
	std::shared_ptr<char> staged;
	if (!from.device && !is_pinned(from.p, n)) {
		staged.reset(static_cast<char *>(malloc(n)), free);
		memcpy(staged.get(), from.p, n);
		from.p = staged.get();
	}
	char name[100];
	snprintf(name, sizeof name, "copy %zu bytes %s to %s", n, from.device ? "device" : "host", to.device ? "device" : "host");
	Point done = driver().push(s, Work{name,
	                                   [=] {
		                                   (void)staged;
		                                   if (code) return code;
		                                   if (!within(to, n) || !within(from, n)) fail("%s: the memory has been freed", name);
		                                   memmove(to.p, from.p, n);
		                                   return 0;
	                                   },
	                                   {}});
	if (wait || (!to.device && !is_pinned(to.p, n))) driver().reach(done);
	return CUDA_SUCCESS;
}

template <class T>
CUresult set(CUdeviceptr p, T value, size_t n, const std::shared_ptr<Stream> &s, bool wait) {
	if (!s) return CUDA_ERROR_INVALID_HANDLE;
	if (n == 0) return CUDA_SUCCESS;
	if (p % sizeof(T) || n > SIZE_MAX / sizeof(T) || !within(at(p), n * sizeof(T))) return CUDA_ERROR_INVALID_VALUE;
	char name[100];
	snprintf(name, sizeof name, "set %zu values of %zu bytes", n, sizeof(T));
	Point done = driver().push(s, Work{name,
	                                   [=] {
		                                   if (!within(at(p), n * sizeof(T))) fail("%s: the memory has been freed", name);
		                                   T *t = reinterpret_cast<T *>(p);
		                                   for (size_t i = 0; i < n; i++) t[i] = value;
		                                   return 0;
	                                   },
	                                   {}});
	if (wait) driver().reach(done);
	return CUDA_SUCCESS;
}

} // namespace

extern "C" {

CUresult cuMemAlloc(CUdeviceptr *p, size_t bytes) {
	return api(context, [&] {
		if (!p || !bytes) return CUDA_ERROR_INVALID_VALUE;
		if (int code = fault("alloc")) return (CUresult)code;
		void *m = allocate(bytes);
		if (!m) return CUDA_ERROR_OUT_OF_MEMORY;
		*p = reinterpret_cast<CUdeviceptr>(m);
		return CUDA_SUCCESS;
	});
}

// As the real one in practice, it waits for all work.
CUresult cuMemFree(CUdeviceptr p) {
	return api(context, [&] {
		if (!p) return CUDA_SUCCESS;
		driver().all();
		return release(reinterpret_cast<void *>(p)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	});
}

CUresult cuMemGetInfo(size_t *free, size_t *total) {
	return api(context, [&] {
		*free = free_memory();
		*total = total_memory();
		return CUDA_SUCCESS;
	});
}

CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr p) {
	return api(context, [&] {
		void *start;
		size_t n;
		if (!in_device(reinterpret_cast<void *>(p), 1, &start, &n)) return CUDA_ERROR_INVALID_VALUE;
		if (base) *base = reinterpret_cast<CUdeviceptr>(start);
		if (bytes) *bytes = n;
		return CUDA_SUCCESS;
	});
}

CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned) {
	return api(context, [&] {
		if (!p || !bytes) return CUDA_ERROR_INVALID_VALUE;
		if (int code = fault("pinned")) return (CUresult)code;
		*p = allocate_pinned(bytes);
		return *p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	});
}

CUresult cuMemAllocHost(void **p, size_t bytes) { return cuMemHostAlloc(p, bytes, 0); }

CUresult cuMemFreeHost(void *p) {
	return api(context, [&] {
		driver().all();
		return release_pinned(p) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	});
}

CUresult cuMemHostRegister(void *p, size_t bytes, unsigned) {
	return api(context, [&] {
		if (!p) return CUDA_ERROR_INVALID_VALUE;
		if (int code = fault("pinned")) return (CUresult)code;
		return register_pinned(p, bytes) ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
	});
}

CUresult cuMemHostUnregister(void *p) {
	return api(context, [&] {
		driver().all();
		return unregister_pinned(p) ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	});
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t n) {
	return api(context, [&] { return copy(at(to), at(from), n, driver().null, true); });
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t n) {
	return api(context, [&] { return copy(at(to), at(from), n, driver().null, true); });
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t n) {
	return api(context, [&] { return copy(at(to), at(from), n, driver().null, false); });
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t n, CUstream s) {
	return api(context, [&] { return copy(at(to), at(from), n, driver().find(s), false); });
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t n, CUstream s) {
	return api(context, [&] { return copy(at(to), at(from), n, driver().find(s), false); });
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
	return api(context, [&] { return copy(at(to), at(from), n, driver().find(s), false); });
}

CUresult cuMemsetD8(CUdeviceptr p, unsigned char x, size_t n) {
	return api(context, [&] { return set(p, x, n, driver().null, false); });
}
CUresult cuMemsetD16(CUdeviceptr p, unsigned short x, size_t n) {
	return api(context, [&] { return set(p, x, n, driver().null, false); });
}
CUresult cuMemsetD32(CUdeviceptr p, unsigned x, size_t n) {
	return api(context, [&] { return set(p, x, n, driver().null, false); });
}
CUresult cuMemsetD8Async(CUdeviceptr p, unsigned char x, size_t n, CUstream s) {
	return api(context, [&] { return set(p, x, n, driver().find(s), false); });
}
CUresult cuMemsetD16Async(CUdeviceptr p, unsigned short x, size_t n, CUstream s) {
	return api(context, [&] { return set(p, x, n, driver().find(s), false); });
}
CUresult cuMemsetD32Async(CUdeviceptr p, unsigned x, size_t n, CUstream s) {
	return api(context, [&] { return set(p, x, n, driver().find(s), false); });
}
}
