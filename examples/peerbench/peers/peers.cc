// Products by other libraries, for comparison: "peers openblas" or "peers onednn" reads lines
//
//	op m n k threads times path
//
// with op nt (f32, y = x·wᵀ), nn (f32, y = a·b), bf16 (bfloat16 operands, weights packed beforehand) or bf16r (the same
// with activations rounded from f32 each time), runs the product that many times on matrices of a fixed pattern, and
// prints per product the seconds by the clock, the seconds of processor time and the value of y in the middle. It prints
// "none" for an op that the library lacks.
#include <cblas.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

using namespace dnnl;

static double seconds(clockid_t clock) {
	timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

// fill writes the pattern that the Go side also uses: multiples of 1/64 in [-1, 1), exact in bfloat16.
static void fill(std::vector<float> &v, uint32_t seed) {
	for (auto &x : v) {
		seed = seed * 1664525u + 1013904223u;
		x = float(int(seed >> 25) - 64) / 64;
	}
}

// bf16Product returns oneDNN's product of bfloat16 matrices with weights in the layout that it likes best.
static std::function<void()> bf16Product(long m, long n, long k, float *x, float *w, float *y, bool rounds) {
	static engine cpu(engine::kind::cpu, 0);
	static stream s(cpu);
	using dt = memory::data_type;
	using tag = memory::format_tag;
	memory::desc xd({m, k}, dt::bf16, tag::ab), wd({k, n}, dt::bf16, tag::any), yd({m, n}, dt::f32, tag::ab);
	matmul::primitive_desc pd(matmul::desc(xd, wd, yd), cpu);
	memory xf({{m, k}, dt::f32, tag::ab}, cpu, x), wf({{k, n}, dt::f32, tag::ba}, cpu, w), ym(yd, cpu, y);
	memory xm(xd, cpu), wm(pd.weights_desc(), cpu);
	reorder roundX(xf, xm);
	reorder(wf, wm).execute(s, wf, wm);
	roundX.execute(s, xf, xm);
	s.wait();
	matmul product(pd);
	return [=]() mutable {
		if (rounds) roundX.execute(s, xf, xm);
		product.execute(s, {{DNNL_ARG_SRC, xm}, {DNNL_ARG_WEIGHTS, wm}, {DNNL_ARG_DST, ym}});
		s.wait();
	};
}

int main(int argc, char **argv) {
	bool blas = argc > 1 && !strcmp(argv[1], "openblas");
	if (argc != 2 || (!blas && strcmp(argv[1], "onednn"))) {
		fprintf(stderr, "usage: peers openblas|onednn\n");
		return 2;
	}
	char op[16];
	long m, n, k;
	int threads, times;
	while (scanf("%15s %ld %ld %ld %d %d %*s", op, &m, &n, &k, &threads, &times) == 6) {
		bool nt = !strcmp(op, "nt"), half = !strcmp(op, "bf16") || !strcmp(op, "bf16r");
		if (!nt && !half && strcmp(op, "nn")) {
			puts("none");
			fflush(stdout);
			continue;
		}
		std::vector<float> x(m * k), w(n * k), y(m * n);
		fill(x, 1);
		fill(w, 2);
		omp_set_num_threads(threads);
		openblas_set_num_threads(threads);
		std::function<void()> run;
		if (half) {
			if (!blas) run = bf16Product(m, n, k, x.data(), w.data(), y.data(), op[4] == 'r');
		} else if (blas) {
			run = [&] {
				cblas_sgemm(CblasRowMajor, CblasNoTrans, nt ? CblasTrans : CblasNoTrans, m, n, k, 1, x.data(), k, w.data(),
					nt ? k : n, 0, y.data(), n);
			};
		} else {
			run = [&] { dnnl_sgemm('N', nt ? 'T' : 'N', m, n, k, 1, x.data(), k, w.data(), nt ? k : n, 0, y.data(), n); };
		}
		if (!run) {
			puts("none");
			fflush(stdout);
			continue;
		}
		run();
		double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
		for (int i = 0; i < times; i++) run();
		cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		wall = seconds(CLOCK_MONOTONIC) - wall;
		printf("%.9g %.9g %.9g\n", wall / times, cpu / times, y[m / 2 * n + n / 2]);
		fflush(stdout);
	}
}
