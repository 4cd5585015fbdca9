// Programs that end with a message of the emulation.
#include "probe.h"

static Device<float> *values, *few;

template <class... A>
static void one(const char *entry, unsigned threads, int shared, A... arguments) {
	Module m({entry});
	std::string name = entry;
	CHECK(launch(m[name.substr(0, name.find(' ')).c_str()], 2, threads, shared, 0, arguments...));
	CHECK(cuCtxSynchronize());
}

int main(int argc, char **argv) {
	start();
	Device<float> x(1000), small(1);
	values = &x;
	few = &small;
	const std::vector<Test> tests = {
	    {"half_warp", [] { one("half_warp u64", 32, 0, (float *)*values); }},
	    {"short_block", [] { one("half_warp u64", 16, 0, (float *)*values); }},
	    {"two_places", [] { one("two_places u64", 32, 0, (float *)*values); }},
	    {"half_barrier", [] { one("half_barrier u64", 64, 0, (float *)*values); }},
	    {"two_barriers", [] { one("two_barriers u64", 64, 0, (float *)*values); }},
	    {"before", [] { one("outside u64 u64", 32, 0, (float *)*values, -1ll); }},
	    {"just_before", [] { one("outside u64 u64", 1, 0, (float *)*few, -1ll); }},
	    {"behind", [] { one("outside u64 u64", 32, 0, (float *)*values, 970ll); }},
	    {"far_behind", [] { one("outside u64 u64", 32, 0, (float *)*values, 1100ll); }},
	    {"freed",
	     [] {
		     Module m({"outside u64 u64"});
		     CUdeviceptr y;
		     CHECK(cuMemAlloc(&y, 4096));
		     float *p = reinterpret_cast<float *>(y);
		     CHECK(cuMemFree(y));
		     CHECK(launch(m["outside"], 1, 32, 0, 0, (float *)*values, (long long)(p - (float *)*values)));
		     CHECK(cuCtxSynchronize());
	     }},
	    {"host_pointer",
	     [] {
		     static float y[32];
		     one("outside u64 u64", 32, 0, y, 0ll);
	     }},
	    {"outside_shared", [] { one("outside_shared u32", 1, 100, 101); }},
	    {"far_outside_shared", [] { one("outside_shared u32", 32, 100, 1000); }},
	    {"unaligned", [] { one("unaligned u64 u32", 1, 0, (float *)*values, 1); }},
	    {"unaligned_copy", [] { one("unaligned_copy u64 u32", 1, 0, (float *)*values, 2); }},
	    {"unaligned_rows", [] { one("unaligned_rows u64 u32", 32, 0, (float *)*values, 4); }},
	    {"global_rows", [] { one("global_rows u64 u64", 32, 0, (float *)*values, (float *)*values); }},
	    {"beyond", [] { one("beyond u64 u32", 32, 0, (float *)*values, 4); }},
	    {"overflow", [] { one("overflow u64 u32 u32", 32, 0, (float *)*values, 70000, 70000); }},
	    {"stale_ptx", [] { one("overflow u64 u32 u64", 32, 0, (float *)*values, 1, 1ll); }},
	    {"other_bound", [] { one("sum:128 u64 u64", 128, 0, (float *)*values, (float *)*values); }},
	};
	return run_test(tests, argc, argv);
}
