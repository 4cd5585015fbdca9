// Modules, functions and launches of the emulated driver.
#include <stdio.h>
#include <string.h>

#include "driver.h"
#include "memory.h"

using namespace emu;

// most_shared is how much shared memory a block may have, at most (CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability").
static int most_shared() {
	int sm = (int)number_setting("MODELPRESS_EMU_CAPABILITY", 90);
	return (sm >= 90 ? 227 : sm == 80 || sm == 87 ? 163 : 99) << 10;
}

// library_of returns the library that has most of the entries.
static const Library *library_of(const std::vector<Entry> &entries) {
	const Library *best = nullptr;
	int most = 0;
	for (auto &l : libraries()) {
		int n = 0;
		for (auto &e : entries) n += l->find(e.name) != nullptr;
		if (n > most) {
			most = n;
			best = l.get();
		}
	}
	return best;
}

// mismatch compares an entry of PTX with the kernel that its source makes now; it returns what differs.
static std::string mismatch(const Entry &e, const Library &l, const Kernel &k) {
	if ((int)e.parameters.size() != k.count)
		return "has " + std::to_string(e.parameters.size()) + " parameters in PTX and " + std::to_string(k.count) + " in its source";
	for (int i = 0; i < k.count; i++) {
		const std::string &p = e.parameters[i];
		int bytes = p.size() == 3 ? (p[1] == '6' ? 8 : 4) : 0, size = k.sizes[i] < 0 ? 8 : k.sizes[i];
		if (bytes != size) return "has parameter " + std::to_string(i) + " as ." + p + " in PTX and of " + std::to_string(size) + " bytes in its source";
	}
	int bound = 0;
	for (auto &b : l.bounds)
		if (b.first == e.name) bound = b.second;
	if (bound != e.max_threads)
		return "is bounded to " + std::to_string(e.max_threads) + " threads in PTX and to " + std::to_string(bound) + " in its source";
	return "";
}

static CUresult load(CUmodule *module, const char *image, std::string &why) {
	if (int code = fault("module")) return (CUresult)code;
	std::vector<Entry> entries;
	why = parse_ptx(image, entries);
	if (!why.empty()) return CUDA_ERROR_INVALID_PTX;
	auto m = std::make_unique<Module>();
	const Library *l = library_of(entries);
	for (auto &e : entries) {
		const Kernel *k = l ? l->find(e.name) : nullptr;
		if (!k) {
			why += "kernel " + e.name + " is in PTX, and no source that compiles exports it; ";
			continue;
		}
		std::string differs = mismatch(e, *l, *k);
		if (!differs.empty()) fail("kernel %s %s: the PTX is not what the source makes", e.name.c_str(), differs.c_str());
		m->functions.push_back(std::unique_ptr<Function>(new Function{m.get(), e, l, k}));
	}
	if (!why.empty()) fprintf(stderr, "emu: %s\n", why.c_str());
	driver().modules.insert(m.get());
	*module = reinterpret_cast<CUmodule>(m.release());
	return CUDA_SUCCESS;
}

static Function *function(CUfunction handle) {
	for (auto *m : driver().modules)
		for (auto &f : m->functions)
			if (f.get() == reinterpret_cast<Function *>(handle)) return f.get();
	return nullptr;
}

extern "C" {

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
	return api(context, [&] {
		std::string why;
		if (!module || !image) return CUDA_ERROR_INVALID_VALUE;
		CUresult r = load(module, static_cast<const char *>(image), why);
		if (r) fprintf(stderr, "emu: PTX %s\n", why.c_str());
		return r;
	});
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned n, CUjit_option *options, void **values) {
	return api(context, [&] {
		if (!module || !image) return CUDA_ERROR_INVALID_VALUE;
		std::string why;
		CUresult r = load(module, static_cast<const char *>(image), why);
		char *log = nullptr;
		size_t size = 0;
		for (unsigned i = 0; i < n; i++) {
			if (options[i] == CU_JIT_ERROR_LOG_BUFFER) log = static_cast<char *>(values[i]);
			if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) size = (size_t)(uintptr_t)values[i];
		}
		if (log && size) snprintf(log, size, "%s", why.c_str());
		return r;
	});
}

CUresult cuModuleUnload(CUmodule module) {
	return api(context, [&] {
		Module *m = reinterpret_cast<Module *>(module);
		if (!driver().modules.count(m)) return CUDA_ERROR_INVALID_HANDLE;
		driver().all();
		driver().modules.erase(m);
		delete m;
		return CUDA_SUCCESS;
	});
}

CUresult cuModuleGetFunction(CUfunction *result, CUmodule module, const char *name) {
	return api(context, [&] {
		Module *m = reinterpret_cast<Module *>(module);
		if (!driver().modules.count(m)) return CUDA_ERROR_INVALID_HANDLE;
		if (!result || !name) return CUDA_ERROR_INVALID_VALUE;
		for (auto &f : m->functions) {
			if (f->entry.name != name) continue;
			*result = reinterpret_cast<CUfunction>(f.get());
			return CUDA_SUCCESS;
		}
		return CUDA_ERROR_NOT_FOUND;
	});
}

CUresult cuModuleGetGlobal(CUdeviceptr *, size_t *, CUmodule, const char *) {
	return api(context, [&] { return CUDA_ERROR_NOT_FOUND; });
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
	return api(context, [&] {
		Function *f = function(handle);
		if (!f) return CUDA_ERROR_INVALID_HANDLE;
		if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT)
			return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
		if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
		if (value < 0 || value > most_shared() - f->entry.shared) return CUDA_ERROR_INVALID_VALUE;
		f->dynamic = value;
		return CUDA_SUCCESS;
	});
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction handle) {
	return api(context, [&] {
		Function *f = function(handle);
		if (!f) return CUDA_ERROR_INVALID_HANDLE;
		switch (attribute) {
		case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = f->entry.max_threads ? f->entry.max_threads : max_threads; break;
		case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = f->entry.shared; break;
		case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = f->dynamic; break;
		case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 64; break;
		case CU_FUNC_ATTRIBUTE_PTX_VERSION: *value = 80; break;
		default: *value = 0;
		}
		return CUDA_SUCCESS;
	});
}

CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) {
	return api(context, [&] { return CUDA_SUCCESS; });
}

static CUresult check_launch(const Function &f, Dim grid, Dim block, unsigned shared) {
	uint64_t threads = (uint64_t)block.x * block.y * block.z;
	if (!grid.x || !grid.y || !grid.z || !threads) return CUDA_ERROR_INVALID_VALUE;
	if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return CUDA_ERROR_INVALID_VALUE;
	if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads > max_threads) return CUDA_ERROR_INVALID_VALUE;
	if (f.entry.max_threads && threads > (uint64_t)f.entry.max_threads) return CUDA_ERROR_INVALID_VALUE;
	if (f.entry.shared > 48 << 10 || shared > (unsigned)f.dynamic || shared + f.entry.shared > (unsigned)most_shared())
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                        CUstream stream, void **parameters, void **extra) {
	return api(context, [&] {
		Function *f = function(handle);
		auto s = driver().find(stream);
		if (!f || !s) return CUDA_ERROR_INVALID_HANDLE;
		if (extra) return CUDA_ERROR_NOT_SUPPORTED;
		if (f->kernel->count && !parameters) return CUDA_ERROR_INVALID_VALUE;
		Dim grid = {gx, gy, gz}, block = {bx, by, bz};
		if (CUresult r = check_launch(*f, grid, block, shared)) return r;
		int code = fault("launch");
		if (code && !is_sticky(code)) return (CUresult)code;
		const Kernel *k = f->kernel;
		auto boxes = std::make_shared<std::vector<uint64_t>>(k->count);
		for (int i = 0; i < k->count; i++) {
			bool pointer = k->sizes[i] < 0;
			memcpy(&(*boxes)[i], parameters[i], pointer ? 8 : k->sizes[i]);
			const void *p = reinterpret_cast<const void *>((*boxes)[i]);
			if (pointer && p && !in_device(p, 0) && !is_pinned(p, 0)) {
				char where[200];
				fail("launch of %s: argument %d is no memory of the device: %s", k->name, i, describe(p, where, sizeof where));
			}
		}
		char name[300];
		snprintf(name, sizeof name, "launch %s (%u,%u,%u)x(%u,%u,%u) %u", k->name, gx, gy, gz, bx, by, bz, shared);
		auto anchor = f->library->anchor;
		driver().push(s, Work{name,
		                      [=] {
			                      if (code) return code;
			                      std::vector<void *> arguments;
			                      for (auto &b : *boxes) arguments.push_back(&b);
			                      static uint64_t serial = 0;
			                      Launch l{k, arguments.data(), grid, block, (int)shared, schedule_setting(), anchor, ++serial};
			                      run_launch(l, races_wanted() ? 1 : (int)number_setting("MODELPRESS_EMU_THREADS", 2));
			                      return 0;
		                      },
		                      {}});
		return CUDA_SUCCESS;
	});
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction handle, int threads, size_t dynamic) {
	return api(context, [&] {
		Function *f = function(handle);
		if (!f || !blocks || threads < 1 || threads > max_threads) return CUDA_ERROR_INVALID_VALUE;
		int by_threads = 2048 / threads, each = (int)dynamic + f->entry.shared + 1024;
		int by_shared = (most_shared() + 1024) / each;
		*blocks = by_threads < by_shared ? by_threads : by_shared;
		return CUDA_SUCCESS;
	});
}
}
