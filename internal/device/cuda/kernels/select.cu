// The k least of many keys, those that come first of equal ones. Digits of 4 bits are counted, from the highest; keys are counted in parts
// of 4096, which a block of 256 threads takes.
#include "common.cuh"

// Wanted is what is known of the k-th key.
struct Wanted {
	unsigned limit;  // its digits, as far as they are known; lower ones are 0
	unsigned unused; // room
	long long left;  // how many keys are wanted of those that begin with these digits
};

const int part_keys = 4096, part_threads = 256;

// select_begin wants k keys.
KERNEL(select_begin)(void *wanted, long long k) { *(Wanted *)wanted = {0, 0, k}; }
EXPORT(select_begin)

typedef unsigned long long Fields; // four counts of 16 bits

DEVICE Fields fields_sum(Fields x) {
	for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
	return x;
}

// select_count counts in each part the keys that begin as wanted says by their digit at shift: counts [parts, 16].
KERNEL(select_count)(int *counts, const unsigned *keys, const void *wanted, long long total, int shift) {
	SHARED Fields sums[part_threads / 32][4];
	const unsigned limit = ((const Wanted *)wanted)->limit, known = shift == 28 ? 0 : ~0u << (shift + 4);
	Fields low = 0, high = 0; // eight counts of 8 bits each: a thread has 16 keys
	long long first = (long long)blockIdx.x * part_keys + threadIdx.x;
	for (int i = 0; i < part_keys; i += part_threads) {
		if (first + i >= total) break;
		unsigned key = keys[first + i], digit = key >> shift & 15;
		if ((key & known) != limit) continue;
		Fields one = (Fields)1 << 8 * (digit & 7);
		if (digit < 8)
			low += one;
		else
			high += one;
	}
	const Fields even = 0x00ff00ff00ff00ff;
	Fields f[4] = {low & even, low >> 8 & even, high & even, high >> 8 & even};
	UNROLL for (int i = 0; i < 4; i++) {
		f[i] = fields_sum(f[i]);
		if (lane() == 0) sums[warp()][i] = f[i];
	}
	__syncthreads();
	if (threadIdx.x >= 16) return;
	int digit = threadIdx.x, n = 0;
	for (int w = 0; w < part_threads / 32; w++) n += (int)(sums[w][digit / 8 * 2 + digit % 2] >> 16 * (digit % 8 / 2) & 0xffff);
	counts[(long long)blockIdx.x * 16 + digit] = n;
}
EXPORT(select_count)

// select_digit finds the digit at shift, by one block. With offsets, for the last digit, it also sets how many keys that equal the k-th one
// lie in the parts before each.
KERNEL(select_digit)(void *wanted, long long *offsets, const int *counts, int parts, int shift) {
	SHARED long long sums[part_threads / 16][16], before[part_threads];
	SHARED int found;
	Wanted *w = (Wanted *)wanted;
	int digit = threadIdx.x % 16, row = threadIdx.x / 16;
	long long n = 0;
	for (int p = row; p < parts; p += part_threads / 16) n += counts[(long long)p * 16 + digit];
	sums[row][digit] = n;
	__syncthreads();
	if (threadIdx.x == 0) {
		long long left = w->left;
		int d = 0;
		for (; d < 16; d++) {
			long long all = 0;
			for (int r = 0; r < part_threads / 16; r++) all += sums[r][d];
			if (all >= left) break;
			left -= all;
		}
		w->limit |= (unsigned)d << shift;
		w->left = left;
		found = d;
	}
	__syncthreads();
	if (!offsets) return;
	int each = (parts + part_threads - 1) / part_threads, from = threadIdx.x * each, to = from + each < parts ? from + each : parts;
	n = 0;
	for (int p = from; p < to; p++) n += counts[(long long)p * 16 + found];
	before[threadIdx.x] = n;
	__syncthreads();
	n = 0;
	for (int t = 0; t < (int)threadIdx.x; t++) n += before[t];
	for (int p = from; p < to; p++) {
		offsets[p] = n;
		n += counts[(long long)p * 16 + found];
	}
}
EXPORT(select_digit)

// select_mark overwrites keys by 1 for those that are wanted and by 0 for the others.
KERNEL(select_mark)(unsigned *keys, const void *wanted, const long long *offsets, long long total) {
	SHARED int equal[part_threads];
	const Wanted w = *(const Wanted *)wanted;
	const int each = part_keys / part_threads;
	long long first = (long long)blockIdx.x * part_keys + threadIdx.x * each;
	int n = 0;
	for (int i = 0; i < each; i++) n += first + i < total && keys[first + i] == w.limit;
	equal[threadIdx.x] = n;
	__syncthreads();
	long long rank = offsets[blockIdx.x];
	for (int t = 0; t < (int)threadIdx.x; t++) rank += equal[t];
	for (int i = 0; i < each && first + i < total; i++) {
		unsigned key = keys[first + i];
		bool tie = key == w.limit;
		keys[first + i] = key < w.limit || (tie && rank < w.left);
		rank += tie;
	}
}
EXPORT(select_mark)
