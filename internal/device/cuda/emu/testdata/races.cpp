// Tests of the search for races: each kernel runs with its barriers, WAIT=1, or without.
#include "probe.h"

static Device<float> *x, *y;
static int waits;

template <class... A>
static void run(const char *entry, unsigned blocks, unsigned threads, A... arguments) {
	Module m({entry});
	std::string name = entry;
	for (int i = 0; i < 3; i++) CHECK(launch(m[name.substr(0, name.find(' ')).c_str()], blocks, threads, 256, 0, arguments..., waits));
	CHECK(cuCtxSynchronize());
}

int main(int argc, char **argv) {
	start();
	waits = atoi(getenv("WAIT"));
	Device<float> from(normal(256, 1)), to(normal(256, 2));
	x = &from;
	y = &to;
	return run_test({{"exchange", [] { run("exchange u64 u64 u32", 1, 64, (float *)*y, (float *)*x); }},
	                 {"reuse", [] { run("reuse u64 u64 u32", 1, 64, (float *)*y, (float *)*x); }},
	                 {"lanes_exchange", [] { run("lanes_exchange u64 u64 u32", 1, 64, (float *)*y, (float *)*x); }},
	                 {"across", [] { run("across u64 u32", 4, 32, (float *)*y); }},
	                 {"neighbours", [] { run("neighbours u64 u32", 4, 32, (float *)*y); }},
	                 {"halves_of_words", [] { run("halves_of_words u64 u32", 1, 64, (float *)*y); }},
	                 {"counted", [] { run("counted u64 u32", 4, 64, (float *)*y); }},
	                 {"tile", [] { run("tile u64 u64 u32", 1, 32, (float *)*y, (float *)*x); }}},
	                argc, argv);
}
