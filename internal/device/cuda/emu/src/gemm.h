// A matrix product in the order of columns: blocked, in a fixed order of sums, accumulated in float.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <vector>

#include "halves.h"

namespace emu {

enum class Type { f32, f16, bf16 };

// Operand is a matrix as it is stored: element (i,j) of the product's operand at i*down + j*right.
struct Operand {
	const void *p;
	Type type;
	size_t down, right;
	bool tf32; // round to ten bits
	float at(size_t i, size_t j) const {
		size_t n = i * down + j * right;
		if (type == Type::f16) return f16_to(static_cast<const uint16_t *>(p)[n]);
		if (type == Type::bf16) return bits_float((uint32_t)static_cast<const uint16_t *>(p)[n] << 16);
		float x = static_cast<const float *>(p)[n];
		// To nearest, ties away from zero (PTX ISA, cvt.rna.tf32.f32).
		return tf32 && x - x == 0 ? bits_float((float_bits(x) + 0x1000) & ~0x1fffu) : x;
	}
};

namespace gemm {

typedef float Vector __attribute__((vector_size(32), aligned(4)));
const int rows = 16, columns = 6, depth = 256, high = 240, wide = 240;

// tile: c[16,6] += alpha * a·b of panels of depth k.
inline void tile(float *c, size_t ldc, const float *a, const float *b, int k, float alpha, int m, int n) {
	Vector sum[columns][2] = {};
	for (int p = 0; p < k; p++, a += rows, b += columns) {
		Vector a0, a1;
		memcpy(&a0, a, 32);
		memcpy(&a1, a + 8, 32);
		for (int j = 0; j < columns; j++) {
			sum[j][0] += a0 * b[j];
			sum[j][1] += a1 * b[j];
		}
	}
	for (int j = 0; j < n; j++)
		for (int i = 0; i < m; i++) c[j * ldc + i] += alpha * sum[j][i / 8][i % 8];
}

// pack writes panels of width values along i, zeros beyond n, for p of [from, from+k). turned swaps what i and p are.
inline void pack(std::vector<float> &to, const Operand &x, bool turned, size_t first, int n, size_t from, int k, int width) {
	to.assign((size_t)(n + width - 1) / width * width * k, 0);
	for (int i = 0; i < n; i++) {
		float *panel = &to[(size_t)(i / width) * width * k + i % width];
		for (int p = 0; p < k; p++) panel[(size_t)p * width] = turned ? x.at(from + p, first + i) : x.at(first + i, from + p);
	}
}

} // namespace gemm

// multiply: c = alpha*a·b + beta*c, a [m,k], b [k,n], c [m,n] with columns of ldc. With beta 0 the old c is not read.
inline void multiply(float *c, size_t ldc, const Operand &a, const Operand &b, size_t m, size_t n, size_t k, float alpha, float beta) {
	using namespace gemm;
	for (size_t j = 0; j < n; j++)
		for (size_t i = 0; i < m; i++) c[j * ldc + i] = beta == 0 ? 0 : beta * c[j * ldc + i];
	std::vector<float> left, right;
	for (size_t p = 0; p < k; p += depth) {
		int kk = (int)(k - p < depth ? k - p : depth);
		for (size_t j = 0; j < n; j += wide) {
			int nn = (int)(n - j < wide ? n - j : wide);
			pack(right, b, true, j, nn, p, kk, columns);
			for (size_t i = 0; i < m; i += high) {
				int mm = (int)(m - i < high ? m - i : high);
				pack(left, a, false, i, mm, p, kk, rows);
				for (int jj = 0; jj < nn; jj += columns)
					for (int ii = 0; ii < mm; ii += rows)
						tile(c + (j + jj) * ldc + i + ii, ldc, &left[(size_t)ii * kk], &right[(size_t)jj * kk], kk, alpha,
						     mm - ii < rows ? mm - ii : rows, nn - jj < columns ? nn - jj : columns);
			}
		}
	}
}

} // namespace emu
