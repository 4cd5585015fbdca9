// What the test programs share: a context, modules, launches, comparisons.
#pragma once
#include <cuda.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <random>
#include <string>
#include <vector>

#define CHECK(call)                                                       \
	do {                                                                  \
		int code = (int)(call);                                           \
		if (code) {                                                       \
			printf("%s:%d: %s gives %d\n", __FILE__, __LINE__, #call, code); \
			exit(1);                                                      \
		}                                                                 \
	} while (0)
#define EXPECT(condition)                                             \
	do {                                                              \
		if (!(condition)) {                                           \
			printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                  \
		}                                                             \
	} while (0)
#define WANT(code, call)                                                               \
	do {                                                                               \
		int got = (int)(call);                                                         \
		if (got != (int)(code)) {                                                      \
			printf("%s:%d: %s gives %d, want %d\n", __FILE__, __LINE__, #call, got, (int)(code)); \
			exit(1);                                                                   \
		}                                                                              \
	} while (0)

inline void start() {
	CUcontext c;
	CHECK(cuInit(0));
	CHECK(cuDevicePrimaryCtxRetain(&c, 0));
	CHECK(cuCtxSetCurrent(c));
}

// Module is loaded from PTX that has no code, only entries: lines of "name u64 f32", where a name may be followed by :THREADS.
struct Module {
	CUmodule handle;
	explicit Module(const std::vector<std::string> &entries, int shared = 0) { CHECK(load(&handle, entries, shared)); }
	static int load(CUmodule *m, const std::vector<std::string> &entries, int shared = 0) {
		std::string text = ".version 7.8\n.target sm_80\n.address_size 64\n";
		for (auto &e : entries) {
			size_t end = e.find_first_of(" :");
			text += ".visible .entry " + e.substr(0, end) + "(";
			std::string bound;
			if (end != std::string::npos && e[end] == ':') {
				size_t stop = e.find(' ', end);
				bound = "\n.maxntid " + e.substr(end + 1, stop - end - 1) + ", 1, 1";
				end = stop;
			}
			for (int n = 0; end != std::string::npos; n++) {
				size_t stop = e.find(' ', end + 1);
				text += (n ? ", .param ." : ".param .") + e.substr(end + 1, stop - end - 1) + " p" + std::to_string(n);
				end = stop;
			}
			text += ")" + bound + "\n{\n";
			if (shared) text += ".shared .align 4 .b8 s[" + std::to_string(shared) + "];\n";
			text += "ret;\n}\n";
		}
		return cuModuleLoadData(m, text.c_str());
	}
	CUfunction operator[](const char *name) {
		CUfunction f;
		CHECK(cuModuleGetFunction(&f, handle, name));
		return f;
	}
};

template <class... A>
int launch(CUfunction f, unsigned grid, unsigned block, int shared, CUstream s, A... arguments) {
	void *boxes[] = {&arguments..., nullptr};
	return cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, s, boxes, nullptr);
}

// Device is memory of the device with values of the host.
template <class T>
struct Device {
	CUdeviceptr p;
	size_t n;
	explicit Device(size_t n) : n(n) { CHECK(cuMemAlloc(&p, (n ? n : 1) * sizeof(T))); }
	explicit Device(const std::vector<T> &x) : Device(x.size()) { CHECK(cuMemcpyHtoD(p, x.data(), n * sizeof(T))); }
	~Device() { cuMemFree(p); }
	operator T *() const { return reinterpret_cast<T *>(p); }
	std::vector<T> get() const {
		std::vector<T> x(n);
		CHECK(cuMemcpyDtoH(x.data(), p, n * sizeof(T)));
		return x;
	}
};

inline std::vector<float> normal(size_t n, unsigned seed) {
	std::mt19937 r(seed);
	std::normal_distribution<float> d;
	std::vector<float> x(n);
	for (auto &v : x) v = d(r);
	return x;
}

// The tests that a program has, by name; main runs the one that is asked for.
struct Test {
	const char *name;
	void (*run)();
};
inline int run_test(const std::vector<Test> &tests, int argc, char **argv) {
	for (auto &t : tests)
		if (argc > 1 && !strcmp(argv[1], t.name)) {
			t.run();
			printf("done\n");
			return 0;
		}
	printf("no test of that name\n");
	return 1;
}
