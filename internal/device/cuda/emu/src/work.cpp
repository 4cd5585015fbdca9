#include "work.h"

#include <string.h>

#include "driver.h"
#include "memory.h"

namespace emu {

int enqueue(void *stream, const char *name, std::function<int()> work) {
	return api(context, [&] {
		auto s = driver().find(static_cast<CUstream>(stream));
		if (!s) return CUDA_ERROR_INVALID_HANDLE;
		driver().push(s, Work{name, std::move(work), {}});
		return CUDA_SUCCESS;
	});
}

void check_device(const char *call, const char *argument, const void *p, size_t n) {
	std::lock_guard<std::recursive_mutex> lock(driver().mutex);
	char where[200];
	if (!in_device(p, n)) fail("%s: %s wants %zu bytes of the device at %s", call, argument, n, describe(p, where, sizeof where));
}

// A whole workspace would take long: its ends stand for it.
void scribble(void *p, size_t n) {
	const size_t part = 64 << 10;
	if (n <= 2 * part) {
		memset(p, 0xff, n);
		return;
	}
	memset(p, 0xff, part);
	memset(static_cast<char *>(p) + n - part, 0xff, part);
}

} // namespace emu
