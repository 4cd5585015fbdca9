// Tests of the driver: memory, streams, events, modules and what it refuses.
#include "probe.h"

#include <thread>

static void memory() {
	size_t free, total, now;
	CHECK(cuMemGetInfo(&free, &total));
	EXPECT(free == total && total == 1 << 20);
	CUdeviceptr a, b;
	CHECK(cuMemAlloc(&a, 600 << 10));
	WANT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&b, 600 << 10));
	CHECK(cuMemGetInfo(&now, &total));
	EXPECT(now == free - (600 << 10));
	std::vector<unsigned> x(150 << 10);
	CHECK(cuMemcpyDtoH(x.data(), a, 600 << 10));
	for (unsigned v : x) EXPECT(v == ~0u);
	WANT(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(x.data(), a + 4, 600 << 10));
	WANT(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(a - 4, x.data(), 8));
	WANT(CUDA_ERROR_INVALID_VALUE, cuMemFree(a + 4));
	WANT(CUDA_ERROR_INVALID_VALUE, cuMemAlloc(&b, 0));
	CHECK(cuMemFree(a));
	WANT(CUDA_ERROR_INVALID_VALUE, cuMemFree(a));
	CHECK(cuMemAlloc(&a, 1 << 20));
	CHECK(cuMemsetD32(a, 0x01020304, 1 << 18));
	CHECK(cuMemcpyDtoH(x.data(), a + (1 << 20) - 4, 4));
	EXPECT(x[0] == 0x01020304);
}

// large is memory that is mapped, and not filled at once.
static void large() {
	CUdeviceptr a;
	const size_t n = 1ull << 30;
	CHECK(cuMemAlloc(&a, n + 100));
	unsigned x = 0;
	for (size_t at = 0; at < n; at += n / 7 / 4 * 4) {
		CHECK(cuMemcpyDtoH(&x, a + at, 4));
		EXPECT(x == ~0u);
	}
	CHECK(cuMemsetD8(a + n, 5, 100));
	CHECK(cuMemcpyDtoH(&x, a + n - 4, 4));
	EXPECT(x == ~0u);
	CHECK(cuMemFree(a));
}

// pinned: the host's memory is read when the copy runs. It prints which of two values the device got.
static void pinned() {
	CUstream s;
	CHECK(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	float *h, got;
	CHECK(cuMemHostAlloc((void **)&h, 4, 0));
	Device<float> x(1);
	*h = 1;
	CHECK(cuMemcpyHtoDAsync(x.p, h, 4, s));
	*h = 2; // too early
	CHECK(cuStreamSynchronize(s));
	CHECK(cuMemcpyDtoH(&got, x.p, 4));
	printf("got %g\n", got);
	float pageable = 3;
	CHECK(cuMemcpyHtoDAsync(x.p, &pageable, 4, s));
	pageable = 4; // staged at the call
	CHECK(cuStreamSynchronize(s));
	CHECK(cuMemcpyDtoHAsync(&got, x.p, 4, s)); // done on return, as it is pageable
	EXPECT(got == 3);
}

static Module *module;

// chain: a copy on one stream, a kernel on another that wants it, a copy back. which 0 has no wait between them, 1 has. It prints what
// comes out; 2 is right.
static float chain(bool waits) {
	CUstream copies, compute;
	CHECK(cuStreamCreate(&copies, CU_STREAM_NON_BLOCKING));
	CHECK(cuStreamCreate(&compute, CU_STREAM_NON_BLOCKING));
	CUevent e;
	CHECK(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	Device<float> x(1), y(1);
	float *h;
	CHECK(cuMemHostAlloc((void **)&h, 8, 0));
	h[0] = 1;
	CHECK(cuMemcpyHtoDAsync(x.p, h, 4, copies));
	CHECK(cuEventRecord(e, copies));
	if (waits) CHECK(cuStreamWaitEvent(compute, e, 0));
	CHECK(launch((*module)["scale"], 1, 32, 0, compute, (float *)y, (float *)x, 2.0f, 1ll));
	CHECK(cuMemcpyDtoHAsync(h + 1, y.p, 4, compute));
	CHECK(cuStreamSynchronize(compute));
	float got = h[1];
	CHECK(cuMemFreeHost(h));
	CHECK(cuStreamDestroy(copies));
	CHECK(cuStreamDestroy(compute));
	CHECK(cuEventDestroy(e));
	return got;
}

static void waits() {
	Module m({"scale u64 u64 f32 u64"});
	module = &m;
	float without = chain(false), with = chain(true);
	printf("without %g, with %g\n", fabs(without), with);
}

// overwrite: a kernel reads what a copy on another stream then overwrites. Without a wait the copy may come first.
static void overwrite() {
	Module m({"scale u64 u64 f32 u64"});
	for (int waits = 0; waits < 2; waits++) {
		CUstream copies, compute;
		CHECK(cuStreamCreate(&copies, CU_STREAM_NON_BLOCKING));
		CHECK(cuStreamCreate(&compute, CU_STREAM_NON_BLOCKING));
		CUevent e;
		CHECK(cuEventCreate(&e, 0));
		Device<float> x(std::vector<float>{1}), y(1);
		float *h, got;
		CHECK(cuMemHostAlloc((void **)&h, 4, 0));
		*h = 10;
		CHECK(launch(m["scale"], 1, 32, 0, compute, (float *)y, (float *)x, 2.0f, 1ll));
		CHECK(cuEventRecord(e, compute));
		if (waits) CHECK(cuStreamWaitEvent(copies, e, 0));
		CHECK(cuMemcpyHtoDAsync(x.p, h, 4, copies));
		CHECK(cuStreamSynchronize(compute));
		CHECK(cuMemcpyDtoH(&got, y.p, 4));
		printf("waits %d: %g\n", waits, got);
	}
}

// The null stream waits for blocking streams and they for it, and neither for the others.
static void null_stream() {
	Module m({"scale u64 u64 f32 u64"});
	for (unsigned flags : {CU_STREAM_DEFAULT, CU_STREAM_NON_BLOCKING}) {
		CUstream s;
		CHECK(cuStreamCreate(&s, flags));
		Device<float> x(std::vector<float>{1}), y(1), z(1);
		float got;
		CHECK(launch(m["scale"], 1, 32, 0, s, (float *)y, (float *)x, 2.0f, 1ll));
		CHECK(cuMemcpyDtoH(&got, y.p, 4)); // on the null stream
		EXPECT(flags == CU_STREAM_DEFAULT ? got == 2 : std::isnan(got));
		CHECK(launch(m["scale"], 1, 32, 0, 0, (float *)z, (float *)x, 3.0f, 1ll));
		CHECK(launch(m["scale"], 1, 32, 0, s, (float *)y, (float *)z, 2.0f, 1ll));
		CHECK(cuStreamSynchronize(s));
		CHECK(cuMemcpyDtoH(&got, y.p, 4));
		EXPECT(flags == CU_STREAM_DEFAULT ? got == 6 : std::isnan(got));
		CHECK(cuStreamDestroy(s));
	}
}

// An event stands for its last record before the call that waits; recorded anew, it means something else to later waits alone.
static void events() {
	Module m({"scale u64 u64 f32 u64"});
	CUstream a, b;
	CHECK(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
	CHECK(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
	CUevent e, never;
	CHECK(cuEventCreate(&e, 0));
	CHECK(cuEventCreate(&never, 0));
	Device<float> x(std::vector<float>{1}), y(1), z(1), w(1);
	WANT(CUDA_SUCCESS, cuStreamWaitEvent(b, never, 0));
	CHECK(launch(m["scale"], 1, 32, 0, a, (float *)y, (float *)x, 2.0f, 1ll));
	CHECK(cuEventRecord(e, a));
	CHECK(cuStreamWaitEvent(b, e, 0));
	CHECK(launch(m["scale"], 1, 32, 0, a, (float *)z, (float *)x, 3.0f, 1ll));
	CHECK(cuEventRecord(e, a));
	WANT(CUDA_ERROR_NOT_READY, cuEventQuery(e));
	CHECK(launch(m["scale"], 1, 32, 0, b, (float *)w, (float *)y, 5.0f, 1ll));
	CHECK(cuStreamSynchronize(b));
	float got;
	CHECK(cuMemcpyDtoH(&got, w.p, 4));
	EXPECT(got == 10);
	CHECK(cuMemcpyDtoH(&got, z.p, 4));
	EXPECT(std::isnan(got)); // b has not waited for this
	int tries = 0;
	while (cuEventQuery(e) == CUDA_ERROR_NOT_READY) EXPECT(++tries < 10);
	CHECK(cuMemcpyDtoH(&got, z.p, 4));
	EXPECT(got == 3);
	float ms;
	WANT(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&ms, never, e));
	CHECK(cuEventElapsedTime(&ms, e, e));
	EXPECT(ms == 0);
	CHECK(cuEventDestroy(e));
	WANT(CUDA_ERROR_INVALID_HANDLE, cuEventSynchronize(e));
}

// Arguments are those of the time of the launch.
static void arguments() {
	Module m({"scale u64 u64 f32 u64"});
	Device<float> x(std::vector<float>{1}), y(1);
	float *py = y, *px = x, a = 2;
	long long n = 1;
	void *boxes[] = {&py, &px, &a, &n};
	CHECK(cuLaunchKernel(m["scale"], 1, 1, 1, 32, 1, 1, 0, 0, boxes, nullptr));
	a = 9;
	n = 0;
	EXPECT(y.get()[0] == 2);
}

static void limits() {
	Module m({"scale u64 u64 f32 u64", "sum:256 u64 u64"}), w({"outside_shared u32"}), s({"outside_shared u32"}, 8 << 10);
	Device<float> x(1);
	auto scale = [&](unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz) {
		float *p = x, a = 1;
		long long n = 1;
		void *boxes[] = {&p, &p, &a, &n};
		return cuLaunchKernel(m["scale"], gx, gy, gz, bx, by, bz, 0, 0, boxes, nullptr);
	};
	CHECK(scale(1, 1, 1, 1024, 1, 1));
	CHECK(scale(1, 65535, 1, 1, 1, 1));
	WANT(CUDA_ERROR_INVALID_VALUE, scale(1, 1, 1, 1025, 1, 1));
	WANT(CUDA_ERROR_INVALID_VALUE, scale(1, 1, 1, 32, 32, 2));
	WANT(CUDA_ERROR_INVALID_VALUE, scale(1, 1, 1, 1, 1, 65));
	WANT(CUDA_ERROR_INVALID_VALUE, scale(0, 1, 1, 32, 1, 1));
	WANT(CUDA_ERROR_INVALID_VALUE, scale(1, 65536, 1, 32, 1, 1));
	WANT(CUDA_ERROR_INVALID_VALUE, scale(1, 1, 65536, 32, 1, 1));
	WANT(CUDA_ERROR_INVALID_VALUE, scale(0x80000000u, 1, 1, 32, 1, 1));
	CHECK(launch(m["sum"], 1, 256, 0, 0, (float *)Device<float>(1), (float *)Device<float>(256)));
	WANT(CUDA_ERROR_INVALID_VALUE, launch(m["sum"], 1, 512, 0, 0, (float *)x, (float *)x));
	CUfunction f = w["outside_shared"], g = s["outside_shared"];
	const int most = atoi(getenv("MOST")) << 10;
	CHECK(launch(f, 1, 1, 48 << 10, 0, 5));
	WANT(CUDA_ERROR_INVALID_VALUE, launch(f, 1, 1, (48 << 10) + 1, 0, 5));
	WANT(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most + 1));
	CHECK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most));
	CHECK(launch(f, 1, 1, most, 0, 5));
	WANT(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(g, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most - (8 << 10) + 1));
	int bytes;
	CHECK(cuFuncGetAttribute(&bytes, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, g));
	EXPECT(bytes == 8 << 10);
	CHECK(cuCtxSynchronize());
}

static void modules() {
	CUmodule m;
	WANT(CUDA_ERROR_INVALID_PTX, cuModuleLoadData(&m, "no ptx"));
	WANT(CUDA_ERROR_INVALID_PTX, cuModuleLoadData(&m, ".version 8.0\n.target sm_100\n.address_size 64\n"));
	char log[200] = "";
	CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
	void *values[] = {log, (void *)sizeof log};
	WANT(CUDA_ERROR_INVALID_PTX, cuModuleLoadDataEx(&m, ".version 8.0\n.target sm_100\n", 2, options, values));
	EXPECT(strstr(log, "sm_100"));
	// A kernel without a source is not there, nor one that the text lacks.
	CHECK(Module::load(&m, {"scale u64 u64 f32 u64", "nowhere u64"}));
	CUfunction f;
	CHECK(cuModuleGetFunction(&f, m, "scale"));
	WANT(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&f, m, "nowhere"));
	WANT(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&f, m, "sum"));
	CHECK(cuModuleUnload(m));
	WANT(CUDA_ERROR_INVALID_HANDLE, cuModuleGetFunction(&f, m, "scale"));
	WANT(CUDA_ERROR_INVALID_HANDLE, launch(f, 1, 1, 0, 0, 1, 1, 1, 1));
}

static void contexts() {
	CUdeviceptr p;
	int code = 0;
	std::thread([&] { code = cuMemAlloc(&p, 4); }).join();
	EXPECT(code == CUDA_ERROR_INVALID_CONTEXT);
	int n, major;
	CHECK(cuDeviceGetCount(&n));
	EXPECT(n == 2);
	CUdevice d;
	CHECK(cuDeviceGet(&d, 1));
	WANT(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&d, 2));
	CHECK(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, d));
	EXPECT(major == 9);
	CUcontext c, got;
	CHECK(cuCtxGetCurrent(&c));
	CHECK(cuCtxPushCurrent(c));
	CHECK(cuCtxPopCurrent(&got));
	EXPECT(got == c);
	CHECK(cuCtxSetCurrent(nullptr));
	WANT(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
}

// faults: the calls that MODELPRESS_EMU_FAIL names fail, once.
static void faults() {
	Module m({"scale u64 u64 f32 u64"});
	Device<float> x(std::vector<float>{1});
	CUdeviceptr p;
	setenv("MODELPRESS_EMU_FAIL", "alloc:2:2,launch:2:701", 1);
	CHECK(cuMemAlloc(&p, 4));
	WANT(2, cuMemAlloc(&p, 4));
	CHECK(cuMemAlloc(&p, 4));
	CUfunction f = m["scale"];
	auto run = [&] { return launch(f, 1, 32, 0, 0, (float *)x, (float *)x, 2.0f, 1ll); };
	CHECK(run());
	WANT(701, run());
	CHECK(run());
	EXPECT(x.get()[0] == 4);
	setenv("MODELPRESS_EMU_FAIL", "alloc:1:2", 1); // counted anew
	WANT(2, cuMemAlloc(&p, 4));
	setenv("MODELPRESS_EMU_FAIL", "launch:1:700", 1);
	int code = run(); // shows when it runs, and stays
	EXPECT(code == 0 || code == 700);
	WANT(700, cuCtxSynchronize());
	WANT(700, cuMemAlloc(&p, 4));
	WANT(700, run());
}

static void no_device() {
	CUcontext c;
	WANT(atoi(getenv("WANT")), cuInit(0));
	WANT(CUDA_ERROR_NOT_INITIALIZED, cuDevicePrimaryCtxRetain(&c, 0));
}

int main(int argc, char **argv) {
	if (argc > 1 && strcmp(argv[1], "no_device")) start();
	return run_test({{"memory", memory}, {"large", large}, {"pinned", pinned}, {"waits", waits}, {"overwrite", overwrite},
	                 {"null_stream", null_stream}, {"events", events}, {"arguments", arguments}, {"limits", limits}, {"modules", modules},
	                 {"contexts", contexts}, {"faults", faults}, {"no_device", no_device}},
	                argc, argv);
}
