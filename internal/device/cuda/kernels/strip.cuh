// Matrices [out, n] whose columns are finished one after the other, in blocks of some hundreds, with the errors e of those that are
// finished made good in the others (calib.Factor): column k is best replaced for y_k = w_k + Σ_{j<k} e_j*A[j,k]. A warp takes a strip of
// rows through a block. Each lane has every 32nd column, 32*K of them at a time in registers, the others in shared memory. Sums are in
// the order of the columns, so that the bits are those of the host.
#pragma once
#include "exact.cuh"

const int strip_rows = 4, strip_warps = 4;

// Lanes are values of the rows of a strip: [r][k] is that of row r and the lane's column k of those in registers.
template <int K>
using Lanes = float[strip_rows][K];

// Strip is the shared memory that a warp sees, strip_bytes in all for a block of threads: 4*(32*32*K + 4*(4*32*K + 4*width)).
template <int K>
struct Strip {
	const float *corner; // [width, width]: A of the columns of the block above the diagonal, 0 elsewhere
	int width;           // of the block, a multiple of 32*K, those that do not exist included
	float (*a)[32 * K];  // rows of the corner for 32 columns, the same for all warps
	float4 *e;           // errors of the columns in registers
	float *y;            // [strip_rows, width]

	DEVICE Strip(const float *corner, int width) : corner(corner), width(width) {
		float *room = (float *)dynamic_shared();
		a = (float(*)[32 * K])room;
		room += 32 * 32 * K + warp() * (4 * 32 * K + strip_rows * width);
		e = (float4 *)room;
		y = room + 4 * 32 * K;
	}

	// load takes y from [out, width] in memory; columns from count on, and rows that do not exist, are 0.
	DEVICE void load(const float *from, long long r0, int out, int count) {
		for (int at = lane(); at < width; at += 32) {
			UNROLL for (int r = 0; r < strip_rows; r++) y[r * width + at] = at < count && r0 + r < out ? from[(r0 + r) * width + at] : 0;
		}
	}

	// take gives the columns from s0 on, put sets them.
	DEVICE void take(Lanes<K> &v, int s0) const {
		UNROLL for (int r = 0; r < strip_rows; r++) {
			UNROLL for (int k = 0; k < K; k++) v[r][k] = y[r * width + s0 + 32 * k + lane()];
		}
	}
	DEVICE void put(const Lanes<K> &v, int s0) {
		UNROLL for (int r = 0; r < strip_rows; r++) {
			UNROLL for (int k = 0; k < K; k++) y[r * width + s0 + 32 * k + lane()] = v[r][k];
		}
	}

	// stage copies the rows of the corner for columns s0+32*k to s0+32*k+31. All warps of the block call it.
	DEVICE void stage(int s0, int k) {
		__syncthreads();
		for (int i = threadIdx.x; i < 32 * 8 * K; i += blockDim.x) {
			int row = i / (8 * K), col = 4 * (i % (8 * K));
			*(float4 *)&a[row][col] = *(const float4 *)&corner[(s0 + 32 * k + row) * width + s0 + col];
		}
		__syncthreads();
	}

	// keep keeps the errors of the lane's column k for correct.
	DEVICE void keep(const float (&v)[strip_rows], int k) { e[32 * k + lane()] = {v[0], v[1], v[2], v[3]}; }

	// correct adds what the errors of the columns from s0 on, as many as are in registers, do to those after them, up to count.
	DEVICE void correct(int s0, int count) {
		__syncwarp();
		for (int at = s0 + 32 * K + lane(); at - lane() < count; at += 32) {
			float v[strip_rows];
			UNROLL for (int r = 0; r < strip_rows; r++) v[r] = y[r * width + at];
			const float *row = corner + s0 * width + at;
			for (int j = 0; j < 32 * K; j += 8) {
				float column[8];
				UNROLL for (int i = 0; i < 8; i++) column[i] = row[(j + i) * width];
				UNROLL for (int i = 0; i < 8; i++) {
					float4 x = e[j + i];
					v[0] += mul(column[i], x.x);
					v[1] += mul(column[i], x.y);
					v[2] += mul(column[i], x.z);
					v[3] += mul(column[i], x.w);
				}
			}
			UNROLL for (int r = 0; r < strip_rows; r++) y[r * width + at] = v[r];
		}
		__syncwarp();
	}
};

// foresee turns y of the columns in registers into what their weights w would best be, now that the columns before them are finished and
// all others still free: with x = z·R_gg⁻¹, x_k = y_k - w_k - Σ_{j<k} x_j*A[j,k], that is w + x, as in quantize/solve.go.
template <int K>
DEVICE void foresee(Strip<K> &s, const Lanes<K> &w, Lanes<K> &y, int s0) {
	UNROLL for (int r = 0; r < strip_rows; r++) {
		UNROLL for (int k = 0; k < K; k++) y[r][k] -= w[r][k];
	}
	UNROLL for (int k = 0; k < K; k++) {
		s.stage(s0, k);
		for (int l = 0; l < 32; l++) {
			UNROLL for (int r = 0; r < strip_rows; r++) {
				float x = -__shfl_sync(0xffffffffu, y[r][k], l);
				UNROLL for (int m = k; m < K; m++) y[r][m] += mul(s.a[l][32 * m + lane()], x);
			}
		}
	}
	UNROLL for (int r = 0; r < strip_rows; r++) {
		UNROLL for (int k = 0; k < K; k++) y[r][k] += w[r][k];
	}
}
