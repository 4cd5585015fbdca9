// How far two outputs of attention are apart.
#include "columns.cuh"

// column_gaps: sums of the columns of (a-b)², in chunks of rows (see columns.cuh).
KERNEL(column_gaps)(double *part, const float *a, const float *b, long long rows, int n, int size) {
	SHARED double shared[COLUMN_WARPS][128];
	const bool wide = wide4(n, a) && aligned(b);
	chunk_sums(part, shared, rows, n, size, [=](long long i, int c) {
		const float4 v = load4(a + i * n, c, n, wide), w = load4(b + i * n, c, n, wide);
		const double x = (double)v.x - w.x, y = (double)v.y - w.y, z = (double)v.z - w.z, u = (double)v.w - w.w;
		return Four{x * x, y * y, z * z, u * u};
	});
}
EXPORT(column_gaps)
