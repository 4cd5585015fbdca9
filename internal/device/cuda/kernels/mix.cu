// Heads that are blended.
#include "vector.cuh"

// mix_heads: y = alpha[g]*a + (1-alpha[g])*b over rows of n values, of which each width belong to a group g; b counts as zeros where it is
// null. y may be a or b. 12 bytes are moved for each value, 8 without b.
KERNEL(mix_heads)(float *y, const float *a, const float *b, const float *alpha, long long rows, int n, int width) {
	bool wide = wide4(n, y) && aligned(a) && aligned(b);
	tile_rows(rows, n, [=](long long i, int c) {
		float4 v = load4(a + i * n, c, n, wide), w;
		if (width % 4 == 0) {
			float t = alpha[c / width];
			w = float4{t, t, t, t};
		} else {
			w.x = alpha[c / width];
			w.y = c + 1 < n ? alpha[(c + 1) / width] : 0;
			w.z = c + 2 < n ? alpha[(c + 2) / width] : 0;
			w.w = c + 3 < n ? alpha[(c + 3) / width] : 0;
		}
		float4 y4 = each4(w, v, [](float w, float v) { return w * v; });
		if (b) y4 = each4(y4, w, load4(b + i * n, c, n, wide), [](float y, float w, float b) { return y + (1.0f - w) * b; });
		store4(y + i * n, c, n, wide, y4);
	});
}
EXPORT(mix_heads)
