// Rotary position embedding (Su et al., arXiv:2104.09864) in the half-split layout.
#include "vector.cuh"

// rope rotates rows from row 0 to rows-1 of x [rows, heads, 2*half] in place: pair (j, j+half) of each head by the angle whose cosine and
// sine stand at [row, j]. A thread takes four pairs. rows*heads*half/4 is below 2^31. 8 bytes are moved for each value, and 8 more for
// each pair of a row, which its heads share.
KERNEL(rope)(float *x, const float *cosine, const float *sine, int rows, int heads, int half) {
	bool wide = wide4(half, x) && aligned(cosine) && aligned(sine);
	unsigned groups = (half + 3) / 4, row_groups = groups * heads, all = row_groups * rows;
	for (unsigned e = blockIdx.x * blockDim.x + threadIdx.x; e < all; e += gridDim.x * blockDim.x) {
		unsigned row = e / row_groups, rest = e - row * row_groups, head = rest / groups;
		int j = 4 * (rest - head * groups);
		float *lo = x + ((long long)row * heads + head) * 2 * half, *hi = lo + half;
		float4 a = load4(lo, j, half, wide), b = load4(hi, j, half, wide);
		float4 c = load4(cosine + (long long)row * half, j, half, wide), s = load4(sine + (long long)row * half, j, half, wide);
		float4 as = each4(a, s, [](float a, float s) { return a * s; }), bs = each4(b, s, [](float b, float s) { return b * s; });
		store4(lo, j, half, wide, each4(a, c, bs, [](float a, float c, float bs) { return a * c - bs; }));
		store4(hi, j, half, wide, each4(b, c, as, [](float b, float c, float as) { return b * c + as; }));
	}
}
EXPORT(rope)
