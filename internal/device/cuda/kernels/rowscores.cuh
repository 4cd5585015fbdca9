// Scores of single queries with all keys, in f32, of values as attention takes them.
#pragma once
#include "mask.cuh"

// A block takes 8 queries that share a KV head, one after the other in the list of items: item e is query head e%group of the KV head for
// query rows[e/group]. 128 threads take a key each.
static constexpr int kItems = 8, kKeys = 128, kSlice = 32;

// taken is a value as attention takes it: rounded where it has one plane, whole where it has three.
DEVICE float taken(float x, int terms) { return terms == 1 ? bf16_to(bf16_from(x)) : x; }

struct RowScores {
	int row[kItems], first, last; // queries, -1 for none, and the range of those there are
	int head, from, group, items; // KV head, first item, query heads of a KV head, and number of items
	const float *q;               // shared memory, [dim][8]

	// begin reads the queries to shared memory, 8*dim floats. q is [T, H, dim].
	DEVICE void begin(float *shared, const float *all, const int *rows, int n, int H, int G, int dim, int terms) {
		head = blockIdx.z, from = blockIdx.y * kItems, group = H / G, items = n * group;
		first = 0x7fffffff, last = -1;
		UNROLL for (int e = 0; e < kItems; e++) {
			row[e] = from + e < items ? rows[(from + e) / group] : -1;
			last = max(last, row[e]);
			if (row[e] >= 0) first = min(first, row[e]);
		}
		for (int x = threadIdx.x; x < kItems * dim; x += kKeys) {
			const int e = x / dim, c = x - e * dim;
			shared[c * kItems + e] = from + e < items ? taken(all[((long long)rows[(from + e) / group] * H + head * group + (from + e) % group) * dim + c], terms) : 0;
		}
		q = shared;
	}

	// place is where item e stands among n rows of all query heads.
	DEVICE long long place(int e, int n) const { return (long long)(head * group + (from + e) % group) * n + (from + e) / group; }

	// scores computes the products with key j0 + thread; k is [T, G, dim].
	DEVICE void scores(float (&sum)[kItems], float (&ks)[kKeys][kSlice + 1], const float *k, int j0, int T, int G, int dim, int terms) const {
		UNROLL for (int e = 0; e < kItems; e++) sum[e] = 0;
		for (int c0 = 0; c0 < dim; c0 += kSlice) {
			__syncthreads();
			for (int x = threadIdx.x; x < kKeys * kSlice; x += kKeys) {
				const int j = x / kSlice, c = x % kSlice;
				ks[j][c] = j0 + j < T && c0 + c < dim ? taken(k[((long long)(j0 + j) * G + head) * dim + c0 + c], terms) : 0;
			}
			__syncthreads();
			for (int c = 0; c < min(kSlice, dim - c0); c++) {
				const float x = ks[threadIdx.x][c];
				const float *qc = q + (c0 + c) * kItems;
				UNROLL for (int e = 0; e < kItems; e++) sum[e] = fmaf(qc[e], x, sum[e]);
			}
		}
	}
};
