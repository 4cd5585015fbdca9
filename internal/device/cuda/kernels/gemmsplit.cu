// Operands of products as planes of bfloat16, rows padded with zeros to a multiple of 8 values. 2 bytes for each plane are moved for each
// value besides what is read.
#include "split.cuh"

// Words are 8 values of bfloat16.
struct alignas(16) Words {
	uint32_t w[4];
};

// write_planes takes the terms of eight values to their planes.
DEVICE void write_planes(uint16_t *planes, long long plane, long long at, int terms, float (&x)[8]) {
	for (int p = 0; p < terms; p++) {
		Words out;
		UNROLL for (int i = 0; i < 4; i++) {
			uint32_t lo = term(x[2 * i]), hi = term(x[2 * i + 1]);
			out.w[i] = lo | hi << 16;
		}
		*(Words *)(planes + p * plane + at) = out;
	}
}

// gemm_split makes planes [terms][rows][padded] of x [rows, k], whose rows are ld values apart.
KERNEL(gemm_split)(uint16_t *planes, const void *x, int kind, int terms, long long rows, long long k, long long padded, long long ld) {
	long long groups = padded / 8, all = rows * groups;
	bool wide = kind == KIND_F32 && ld % 4 == 0 && (uintptr_t)x % 16 == 0;
	for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < all; e += (long long)gridDim.x * blockDim.x) {
		long long row = e / groups, c = (e - row * groups) * 8;
		float v[8];
		if (wide && c + 8 <= k) {
			const float4 *from = (const float4 *)((const float *)x + row * ld + c);
			float4 a = from[0], b = from[1];
			v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
		} else {
			UNROLL for (int i = 0; i < 8; i++) v[i] = c + i < k ? value_at(x, kind, row * ld + c + i) : 0;
		}
		write_planes(planes, rows * padded, row * padded + c, terms, v);
	}
}
EXPORT(gemm_split)

// gemm_split_columns makes planes [terms][rows][padded] of columns [from, from+rows) of x [k, ld]: each block takes 64 of these and 64 values
// of k.
KERNEL(gemm_split_columns)(uint16_t *planes, const void *x, int kind, int terms, long long rows, long long k, long long padded, long long ld, long long from) {
	SHARED float tile[64][65];
	long long down = (padded + 63) / 64, row = 64 * (blockIdx.x / down), at = 64 * (blockIdx.x % down);
	for (int e = threadIdx.x; e < 64 * 64; e += 256) {
		int i = e / 64, j = e % 64;
		tile[i][j] = at + i < k && row + j < rows ? value_at(x, kind, (at + i) * ld + from + row + j) : 0;
	}
	__syncthreads();
	for (int e = threadIdx.x; e < 64 * 8; e += 256) {
		int group = e % 8, j = e / 8;
		if (row + j >= rows || at + 8 * group >= padded) continue;
		float v[8];
		UNROLL for (int i = 0; i < 8; i++) v[i] = tile[8 * group + i][j];
		write_planes(planes, rows * padded, (row + j) * padded + at + 8 * group, terms, v);
	}
}
EXPORT(gemm_split_columns)
