// Tests of what kernels see, against plain loops.
#include "probe.h"

static uint16_t bf16(float x) {
	uint32_t b;
	memcpy(&b, &x, 4);
	return (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}
static double value(uint16_t h) {
	uint32_t b = (uint32_t)h << 16;
	float x;
	memcpy(&x, &b, 4);
	return x;
}
static std::vector<uint16_t> random_bf16(size_t n, unsigned seed) {
	std::vector<uint16_t> x;
	for (float v : normal(n, seed)) x.push_back(bf16(v));
	return x;
}

// product is d + a·b in double, and the sum of the magnitudes in it.
static double product(double d, const uint16_t *a, const uint16_t *b, int i, int j, int n, double *size) {
	double s = d;
	*size = fabs(d);
	for (int k = 0; k < 16; k++) {
		double t = value(a[i * 16 + k]) * value(b[k * n + j]);
		s += t;
		*size += fabs(t);
	}
	return s;
}

static void fragments() {
	Module m({"fragments u64 u64 u64"});
	for (unsigned seed = 0; seed < 20; seed++) {
		auto a = random_bf16(256, seed), b = random_bf16(128, seed + 100);
		auto d = normal(128, seed + 200);
		Device<uint16_t> da(a), db(b);
		Device<float> dd(d);
		CHECK(launch(m["fragments"], 1, 32, 0, 0, (float *)dd, (uint16_t *)da, (uint16_t *)db));
		auto got = dd.get();
		for (int i = 0; i < 16; i++)
			for (int j = 0; j < 8; j++) {
				double size, want = product(d[i * 8 + j], a.data(), b.data(), i, j, 8, &size);
				EXPECT(fabs(got[i * 8 + j] - want) <= size * 0x1p-21);
			}
	}
}

static void loaded() {
	Module m({"loaded u64 u64 u64 u64 u32"});
	for (int which = 0; which < 2; which++) {
		auto a = random_bf16(256, 1), b = random_bf16(256, 2);
		std::vector<uint16_t> bt(256);
		for (int i = 0; i < 256; i++) bt[i % 16 * 16 + i / 16] = b[i];
		auto d = normal(256, 3);
		Device<uint16_t> da(a), db(b), dbt(bt);
		Device<float> dd(d);
		CHECK(launch(m["loaded"], 1, 32, 0, 0, (float *)dd, (uint16_t *)da, (uint16_t *)db, (uint16_t *)dbt, which));
		auto got = dd.get();
		for (int i = 0; i < 16; i++)
			for (int j = 0; j < 16; j++) {
				double size, want = product(d[i * 16 + j], a.data(), b.data(), i, j, 16, &size);
				EXPECT(fabs(got[i * 16 + j] - want) <= size * 0x1p-21);
			}
	}
}

// The arithmetic of tensor cores: what is far below the largest term is cut off, and sums go toward zero.
static void truncation() {
	Module m({"fragments u64 u64 u64"});
	auto run = [&](float c, std::vector<float> terms) {
		std::vector<uint16_t> a(256, 0), b(128, 0);
		for (size_t k = 0; k < terms.size(); k++) {
			a[k] = bf16(terms[k]);
			b[k * 8] = bf16(1);
		}
		std::vector<float> d(128, 0);
		d[0] = c;
		Device<uint16_t> da(a), db(b);
		Device<float> dd(d);
		CHECK(launch(m["fragments"], 1, 32, 0, 0, (float *)dd, (uint16_t *)da, (uint16_t *)db));
		return dd.get()[0];
	};
	EXPECT(run(1, {}) == 1);
	EXPECT(run(0, {0x1p-130f}) == 0x1p-130f); // subnormal numbers count
	EXPECT(run(1, {0x1p-23f}) == 1 + 0x1p-23f);
	EXPECT(run(1, {0x1p-24f}) == 1); // half a unit is never rounded up
	EXPECT(run(1, {0x1.8p-24f}) == 1);
	EXPECT(run(1, {0x1p-24f, 0x1p-24f}) == 1 + 0x1p-23f); // one bit more than f32 has within a sum of eight,
	EXPECT(run(1, {0x1p-25f, 0x1p-25f, 0x1p-25f, 0x1p-25f}) == 1);                      // and no second one
	EXPECT(run(1, {0x1p-24f, 0, 0, 0, 0, 0, 0, 0, 0x1p-24f}) == 1);                     // between two sums it is lost
	EXPECT(run(-1, {-0x1p-24f}) == -1);
	EXPECT(run(1, {-0x1p-25f}) == 1); // cut off before it is added
	EXPECT(run(1, {-0x1p-24f}) == 1 - 0x1p-24f);
	EXPECT(std::isnan(run(1, {NAN})));
	EXPECT(std::isnan(run(INFINITY, {-INFINITY})));
	EXPECT(run(1, {INFINITY}) == INFINITY);
}

// step is c plus eight products as the tensor cores of an A100 add them.
static float step(float c, const double *terms) {
	double largest = fabs((double)c);
	for (int k = 0; k < 8; k++) largest = fmax(largest, fabs(terms[k]));
	if (largest == 0) return 0;
	const double unit = ldexp(1, ilogb(largest) - 24);
	double sum = trunc(c / unit);
	for (int k = 0; k < 8; k++) sum += trunc(terms[k] / unit);
	sum *= unit;
	float f = (float)sum;
	return fabs((double)f) > fabs(sum) ? nextafterf(f, 0) : f;
}

// Bit by bit, for values of very different sizes, down to subnormal products and up to infinite sums.
static void arithmetic() {
	Module m({"fragments u64 u64 u64"});
	std::mt19937 r(9);
	for (int round = 0; round < 300; round++) {
		const int spread = round % 60, centre = round % 7 * 20 - 60;
		auto draw = [&] { return bf16(ldexpf((float)(int)(r() % 511) - 255, (int)(r() % (2 * spread + 1)) - spread + centre)); };
		std::vector<uint16_t> a(256), b(128);
		std::vector<float> d(128);
		for (auto &x : a) x = draw();
		for (auto &x : b) x = r() % 5 ? draw() : 0;
		for (auto &x : d) x = (float)((int)(r() % 0x1ffffff) - 0xffffff) * ldexpf(1, 2 * centre - 24 + (int)(r() % 30) - 15);
		Device<uint16_t> da(a), db(b);
		Device<float> dd(d);
		CHECK(launch(m["fragments"], 1, 32, 0, 0, (float *)dd, (uint16_t *)da, (uint16_t *)db));
		auto got = dd.get();
		for (int i = 0; i < 16; i++)
			for (int j = 0; j < 8; j++) {
				float want = d[i * 8 + j];
				for (int half = 0; half < 2; half++) {
					double terms[8];
					for (int k = 0; k < 8; k++) terms[k] = value(a[i * 16 + 8 * half + k]) * value(b[(8 * half + k) * 8 + j]);
					want = step(want, terms);
				}
				EXPECT(got[i * 8 + j] == want || (!(want - want == 0) && !(got[i * 8 + j] - got[i * 8 + j] == 0)));
			}
	}
}

static void rows() {
	Module m({"rows u64 u64"});
	std::vector<uint16_t> x(256);
	for (int i = 0; i < 256; i++) x[i] = (uint16_t)(i * 251 + 7);
	Device<uint16_t> dx(x);
	Device<uint32_t> dy(256);
	CHECK(launch(m["rows"], 1, 32, 0, 0, (uint32_t *)dy, (uint16_t *)dx));
	auto y = dy.get();
	for (int l = 0; l < 32; l++)
		for (int i = 0; i < 4; i++) {
			auto at = [&](int row, int column) { return (uint32_t)x[i * 64 + row * 8 + column]; };
			EXPECT(y[l * 4 + i] == (at(l / 4, 2 * (l % 4)) | at(l / 4, 2 * (l % 4) + 1) << 16));
			EXPECT(y[128 + l * 4 + i] == (at(2 * (l % 4), l / 4) | at(2 * (l % 4) + 1, l / 4) << 16));
		}
}

static void ring() {
	Module m({"ring u64 u64 u32"});
	const int steps = 5;
	std::vector<uint16_t> x(steps * 256);
	for (size_t i = 0; i < x.size(); i++) x[i] = (uint16_t)(i + 1);
	Device<uint16_t> dx(x), dy(x.size());
	CHECK(launch(m["ring"], 1, 32, 0, 0, (uint16_t *)dy, (uint16_t *)dx, steps));
	auto y = dy.get();
	for (int i = 0; i < steps; i++)
		for (int t = 0; t < 32; t++)
			for (int j = 0; j < 8; j++) {
				int from = 31 - t;
				EXPECT(y[(i * 32 + t) * 8 + j] == (from % 2 ? 0 : x[(i * 32 + from) * 8 + j]));
			}
}

template <class T>
static void shuffle(Module &m, const char *name) {
	std::vector<T> x(64);
	for (int i = 0; i < 64; i++) x[i] = (T)(i * 3 + 1) * (T)(sizeof(T) == 8 ? 1000000007 : 1);
	for (int width = 1; width <= 32; width *= 2) {
		Device<T> dx(x), dy(256);
		CHECK(launch(m[name], 1, 64, 0, 0, (T *)dy, (T *)dx, width));
		auto y = dy.get();
		for (int t = 0; t < 64; t++) {
			int warp = t / 32 * 32, l = t % 32, segment = l / width * width;
			auto in = [&](int lane) { return lane >= segment && lane < segment + width; };
			EXPECT(y[4 * t] == x[warp + segment + 5 % width]);
			// The hardware bounds xor from above alone; below, it leads to the segment before.
			EXPECT(y[4 * t + 1] == x[warp + ((l ^ 3) < segment + width ? (l ^ 3) : l)]);
			EXPECT(y[4 * t + 2] == x[warp + (in(l - 2) ? l - 2 : l)]);
			EXPECT(y[4 * t + 3] == x[warp + (in(l + 7) ? l + 7 : l)]);
		}
	}
}

static void shuffles() {
	Module m({"shuffles_f32 u64 u64 u32", "shuffles_f64 u64 u64 u32", "shuffles_i64 u64 u64 u32", "halves u64"});
	shuffle<float>(m, "shuffles_f32");
	shuffle<double>(m, "shuffles_f64");
	shuffle<long long>(m, "shuffles_i64");
	Device<int> y(32);
	CHECK(launch(m["halves"], 1, 32, 0, 0, (int *)y));
	auto got = y.get();
	for (int l = 0; l < 32; l++) EXPECT(got[l] == (l < 16 ? l ^ 1 : l < 31 ? l + 1 : l));
}

static void votes() {
	Module m({"votes u64 u64"});
	for (int kind = 0; kind < 3; kind++) {
		std::vector<int> x(64);
		int all = 0;
		for (int t = 0; t < 64; t++) all += x[t] = kind == 0 ? t % 3 == 0 : kind == 1 ? 1 : t == 40;
		Device<int> dx(x), dy(64 * 6);
		CHECK(launch(m["votes"], 1, 64, 0, 0, (int *)dy, (int *)dx));
		auto y = dy.get();
		for (int t = 0; t < 64; t++) {
			unsigned ballot = 0;
			for (int l = 0; l < 32; l++) ballot |= (unsigned)x[t / 32 * 32 + l] << l;
			const int want[6] = {(int)ballot, ballot != 0, ballot == ~0u, all, all > 0, all == 64};
			for (int i = 0; i < 6; i++) EXPECT(y[6 * t + i] == want[i]);
		}
	}
}

static void indices() {
	Module m({"indices u64"});
	const unsigned g[3] = {3, 2, 2}, b[3] = {4, 3, 2};
	Device<int> y(12 * 12 * 24);
	int *p = y;
	void *boxes[] = {&p};
	CHECK(cuLaunchKernel(m["indices"], g[0], g[1], g[2], b[0], b[1], b[2], 0, 0, boxes, nullptr));
	auto got = y.get();
	for (int i = 0; i < 12 * 24; i++) {
		unsigned block = i / 24, thread = i % 24;
		const unsigned want[12] = {thread % 4, thread / 4 % 3, thread / 12, block % 3, block / 3 % 2, block / 6, 4, 3, 2, 3, 2, 2};
		for (int j = 0; j < 12; j++) EXPECT(got[12 * i + j] == (int)want[j]);
	}
}

static void parameters() {
	Module m({"parameters u64 u32 u64 f32 f64"});
	Device<double> y(4);
	// Boxes are of eight bytes and hold more than the parameter needs.
	int64_t i = 0x7777777700000000 | (uint32_t)-5, l = -(1ll << 40), f = 0x7777777700000000;
	float x = 1.25f;
	memcpy(&f, &x, 4);
	CHECK(launch(m["parameters"], 1, 1, 0, 0, (double *)y, i, l, f, -2.5));
	auto got = y.get();
	EXPECT(got[0] == -5 && got[1] == -0x1p40 && got[2] == 1.25 && got[3] == -2.5);
}

// Many blocks: sums, and shared memory that a launch asks for; the bits are printed, to be compared between schedules.
static void grid() {
	Module m({"sum:256 u64 u64", "through u64 u64"});
	const int blocks = 300;
	auto x = normal(256 * blocks, 7);
	Device<float> dx(x), dy(blocks), dz(x.size());
	CHECK(launch(m["sum"], blocks, 256, 0, 0, (float *)dy, (float *)dx));
	CHECK(launch(m["through"], blocks, 256, 1024, 0, (float *)dz, (float *)dx));
	auto y = dy.get(), z = dz.get();
	uint32_t bits = 0;
	for (int b = 0; b < blocks; b++) {
		double sum = 0, size = 0;
		for (int i = 0; i < 256; i++) {
			sum += x[256 * b + i];
			size += fabs(x[256 * b + i]);
			EXPECT(z[256 * b + i] == x[256 * b + 255 - i]);
		}
		EXPECT(fabs(y[b] - sum) <= 256 * size * 0x1p-24);
		uint32_t w;
		memcpy(&w, &y[b], 4);
		bits = bits * 31 + w;
	}
	printf("bits %08x\n", bits);
}

static void stale() {
	Module m({"stale u64"});
	Device<float> y(64);
	for (int i = 0; i < 2; i++) {
		CHECK(launch(m["stale"], 3, 32, 128, 0, (float *)y));
		for (float v : y.get()) EXPECT(std::isnan(v));
	}
}

// barrier prints which results of a kernel that lacks one are right.
static void barrier() {
	Module m({"no_barrier u64 u64"});
	auto x = normal(64, 1);
	Device<float> dx(x), dy(64);
	CHECK(launch(m["no_barrier"], 1, 64, 0, 0, (float *)dy, (float *)dx));
	auto y = dy.get();
	uint64_t right = 0;
	for (int i = 0; i < 64; i++) right |= (uint64_t)(y[i] == x[63 - i]) << i;
	printf("right %016llx\n", (unsigned long long)right);
}

static void wait() {
	Module m({"no_wait u64 u64", "short_wait u64 u64"});
	Device<float> dx(normal(128, 1)), dy(32);
	for (const char *name : {"no_wait", "short_wait"}) {
		CHECK(launch(m[name], 1, 32, 0, 0, (float *)dy, (float *)dx));
		for (float v : dy.get()) EXPECT(std::isnan(v));
	}
}

int main(int argc, char **argv) {
	start();
	return run_test({{"fragments", fragments}, {"loaded", loaded}, {"truncation", truncation}, {"arithmetic", arithmetic}, {"rows", rows}, {"ring", ring},
	                 {"shuffles", shuffles}, {"votes", votes}, {"indices", indices}, {"parameters", parameters}, {"grid", grid},
	                 {"stale", stale}, {"barrier", barrier}, {"wait", wait}},
	                argc, argv);
}
