// What the kernels of attention read: rows as planes of bfloat16 values, and what its gradients know of each query.
#include "split.cuh"

// eight reads columns col to col+7 of a row of dim values, zeros past its end.
DEVICE void eight(float (&x)[8], const float *row, int col, int dim) {
	if (((uintptr_t)row & 15) == 0 && col + 8 <= dim) {
		const float4 a = *(const float4 *)(row + col), b = *(const float4 *)(row + col + 4);
		x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
	} else {
		UNROLL for (int i = 0; i < 8; i++) x[i] = col + i < dim ? row[col + i] : 0;
	}
}

// attention_planes writes rows [seqs, t, ld] of heads of dim values, times sign, as planes [terms][seqs, heads, tp, kp], whose sum they
// are (one plane: rounded); what is past t or dim is zeros. x points at the first head. Blocks count eighths of rows by 256, heads,
// and sequences.
KERNEL(attention_planes)(uint16_t *planes, const float *x, long long ld, int t, int tp, int dim, int kp, int terms, float sign) {
	const int n = blockIdx.x * 256 + threadIdx.x, row = n / (kp / 8), col = n % (kp / 8) * 8;
	if (row >= tp) return;
	float v[8];
	UNROLL for (int i = 0; i < 8; i++) v[i] = 0;
	if (row < t) eight(v, x + ((long long)blockIdx.z * t + row) * ld + (long long)blockIdx.y * dim, col, dim);
	UNROLL for (int i = 0; i < 8; i++) v[i] *= sign;
	const long long heads = (long long)gridDim.y * gridDim.z, head = (long long)blockIdx.z * gridDim.y + blockIdx.y;
	uint16_t *to = planes + (head * tp + row) * kp + col;
	for (int n = 0; n < terms; n++, to += heads * tp * kp) {
		uint32_t pair[4];
		UNROLL for (int i = 0; i < 4; i++) {
			const uint32_t low = term(v[2 * i]);
			pair[i] = low | (uint32_t)term(v[2 * i + 1]) << 16;
		}
		*(uint4 *)to = make_uint4(pair[0], pair[1], pair[2], pair[3]);
	}
}
EXPORT(attention_planes)

// attention_delta writes for each query of heads delta = dout·out, summed in float64, and its lse in base 2, [seqs, heads, tp] each: past
// t zeros, and +Inf, under which every weight is 0. Where planes of dout are rounded (terms is 1), dout is taken as rounded: so the slopes
// of a row sum to zero. out and dout are [seqs, t, ld], lse [seqs, all, t]; all three point at the first head. A warp takes a query;
// blocks count queries by 8, heads, and sequences.
KERNEL(attention_delta)
(float *lse2, float *delta, const float *lse, const float *out, const float *dout, long long ld, int all, int t, int tp, int dim, int terms) {
	const int i = blockIdx.x * 8 + warp();
	if (i >= tp) return;
	double sum = 0;
	if (i < t) {
		const long long at = ((long long)blockIdx.z * t + i) * ld + (long long)blockIdx.y * dim;
		for (int c = lane(); c < dim; c += 32) {
			float x = dout[at + c], rest = x;
			if (terms == 1) x = bf16_to(term(rest));
			sum += (double)out[at + c] * x;
		}
	}
	sum = warp_sum(sum);
	if (lane() == 0) {
		const long long to = ((long long)blockIdx.z * gridDim.y + blockIdx.y) * tp + i;
		lse2[to] = i < t ? lse[((long long)blockIdx.z * all + blockIdx.y) * t + i] * 1.44269504f : INFINITY;
		delta[to] = (float)sum;
	}
}
EXPORT(attention_delta)
