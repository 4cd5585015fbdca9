// Initialization, devices, contexts and errors of the emulated driver.
#include <stdio.h>
#include <string.h>

#include "driver.h"
#include "memory.h"

using namespace emu;

static int capability() { return (int)number_setting("MODELPRESS_EMU_CAPABILITY", 90); }

static bool is_device(CUdevice d) { return d >= 0 && d < (int)driver().primaries.size(); }

static bool known(CUcontext c) { return driver().contexts.count(reinterpret_cast<Context *>(c)) > 0; }

static int attribute(CUdevice_attribute a) {
	bool hopper = capability() >= 90;
	switch (a) {
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: return 1024;
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: return 64;
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: return 0x7fffffff;
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: return 65535;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return 48 << 10;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return (hopper ? 227 : 163) << 10;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return (hopper ? 228 : 164) << 10;
	case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
	case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: return 65536;
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return 2048;
	case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return (int)number_setting("MODELPRESS_EMU_MULTIPROCESSORS", 4);
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return capability() / 10;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return capability() % 10;
	case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
	case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: return 1000000;
	case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: return 5120;
	case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return 40 << 20;
	case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: return 3;
	case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
	case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
	case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
	case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP: return 1;
	default: return 0;
	}
}

extern "C" {

CUresult cuInit(unsigned flags) {
	return api(nothing, [&] {
		if (flags) return CUDA_ERROR_INVALID_VALUE;
		if (int code = (int)number_setting("MODELPRESS_EMU_INIT", 0)) return (CUresult)code;
		Driver &d = driver();
		if (d.initialized) return CUDA_SUCCESS;
		int devices = (int)number_setting("MODELPRESS_EMU_DEVICES", 1);
		if (devices < 1) return CUDA_ERROR_NO_DEVICE;
		for (int i = 0; i < devices; i++) {
			d.primaries.push_back(std::make_unique<Context>());
			d.primaries.back()->device = i;
			d.primaries.back()->primary = true;
		}
		catch_signals();
		d.initialized = true;
		return CUDA_SUCCESS;
	});
}

CUresult cuDriverGetVersion(int *version) {
	if (!version) return CUDA_ERROR_INVALID_VALUE;
	*version = (int)number_setting("MODELPRESS_EMU_VERSION", 12060);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *n) {
	return api(initialization, [&] {
		*n = (int)driver().primaries.size();
		return CUDA_SUCCESS;
	});
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
	return api(initialization, [&] {
		if (!is_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
		*device = ordinal;
		return CUDA_SUCCESS;
	});
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
	return api(initialization, [&] {
		if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
		snprintf(name, size, "Emulated GPU %d", device);
		return CUDA_SUCCESS;
	});
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
	return api(initialization, [&] {
		if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
		memset(uuid, 0xe0 + device, sizeof *uuid);
		return CUDA_SUCCESS;
	});
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
	return api(initialization, [&] {
		if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
		*bytes = total_memory();
		return CUDA_SUCCESS;
	});
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute a, CUdevice device) {
	return api(initialization, [&] {
		if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
		if (a < 1 || a >= CU_DEVICE_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
		*value = attribute(a);
		return CUDA_SUCCESS;
	});
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *result, CUdevice device) {
	return api(initialization, [&] {
		if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
		Context *c = driver().primaries[device].get();
		c->references++;
		driver().contexts.insert(c);
		*result = reinterpret_cast<CUcontext>(c);
		return CUDA_SUCCESS;
	});
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
	return api(initialization, [&] {
		if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
		Context *c = driver().primaries[device].get();
		if (c->references == 0) return CUDA_ERROR_INVALID_CONTEXT;
		if (--c->references == 0) driver().all();
		return CUDA_SUCCESS;
	});
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned) {
	return api(initialization, [&] { return is_device(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE; });
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
	return api(initialization, [&] {
		if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
		*flags = 0;
		*active = driver().primaries[device]->references > 0;
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxCreate(CUcontext *result, unsigned, CUdevice device) {
	return api(initialization, [&] {
		if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
		auto *c = new Context;
		c->device = device;
		driver().contexts.insert(c);
		current.push_back(c);
		*result = reinterpret_cast<CUcontext>(c);
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxDestroy(CUcontext handle) {
	return api(initialization, [&] {
		auto *c = reinterpret_cast<Context *>(handle);
		if (!known(handle) || c->primary) return CUDA_ERROR_INVALID_CONTEXT;
		driver().all();
		driver().contexts.erase(c);
		if (!current.empty() && current.back() == c) current.pop_back();
		delete c;
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxSetCurrent(CUcontext handle) {
	return api(initialization, [&] {
		if (handle && !known(handle)) return CUDA_ERROR_INVALID_CONTEXT;
		if (!current.empty()) current.pop_back();
		if (handle) current.push_back(reinterpret_cast<Context *>(handle));
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxGetCurrent(CUcontext *result) {
	return api(initialization, [&] {
		*result = current.empty() ? nullptr : reinterpret_cast<CUcontext>(current.back());
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxPushCurrent(CUcontext handle) {
	return api(initialization, [&] {
		if (!known(handle)) return CUDA_ERROR_INVALID_CONTEXT;
		current.push_back(reinterpret_cast<Context *>(handle));
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxPopCurrent(CUcontext *result) {
	return api(initialization, [&] {
		if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
		if (result) *result = reinterpret_cast<CUcontext>(current.back());
		current.pop_back();
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxGetDevice(CUdevice *device) {
	return api(context, [&] {
		*device = current.back()->device;
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxSynchronize() {
	return api(context, [&] {
		driver().all();
		return CUDA_SUCCESS;
	});
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
	return api(context, [&] {
		if (least) *least = 0;
		if (greatest) *greatest = -5;
		return CUDA_SUCCESS;
	});
}

CUresult cuGetErrorName(CUresult code, const char **text) {
	switch ((int)code) {
#define NAME(name) \
	case name: *text = #name; return CUDA_SUCCESS;
		NAME(CUDA_SUCCESS)
		NAME(CUDA_ERROR_INVALID_VALUE)
		NAME(CUDA_ERROR_OUT_OF_MEMORY)
		NAME(CUDA_ERROR_NOT_INITIALIZED)
		NAME(CUDA_ERROR_NO_DEVICE)
		NAME(CUDA_ERROR_INVALID_DEVICE)
		NAME(CUDA_ERROR_INVALID_IMAGE)
		NAME(CUDA_ERROR_INVALID_CONTEXT)
		NAME(CUDA_ERROR_NO_BINARY_FOR_GPU)
		NAME(CUDA_ERROR_ECC_UNCORRECTABLE)
		NAME(CUDA_ERROR_INVALID_PTX)
		NAME(CUDA_ERROR_INVALID_HANDLE)
		NAME(CUDA_ERROR_NOT_FOUND)
		NAME(CUDA_ERROR_NOT_READY)
		NAME(CUDA_ERROR_ILLEGAL_ADDRESS)
		NAME(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)
		NAME(CUDA_ERROR_LAUNCH_TIMEOUT)
		NAME(CUDA_ERROR_MISALIGNED_ADDRESS)
		NAME(CUDA_ERROR_LAUNCH_FAILED)
		NAME(CUDA_ERROR_NOT_SUPPORTED)
#undef NAME
	}
	*text = nullptr;
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
	CUresult r = cuGetErrorName(code, text);
	if (r == CUDA_SUCCESS) *text = code ? "an error of the emulated driver" : "no error";
	return r;
}
}
