// Sums of attention over blocks of `width` queries by as many keys, whatever the width.
#pragma once
#include "attnscores.cuh"

// Parts of rows of a tile: no more than 16 rows each, none of them of two blocks.
struct Parts {
	int blocks; // rows of blocks in the tile
	int height; // rows of each
	int each;   // parts of each, of 16 rows but for the last
};

struct BlockShared {
	float a[64 * kLine];
	float sums[64][64]; // [part][column]
};

// sum_parts sums the columns of each part.
DEVICE void sum_parts(BlockShared *s, const Parts &p) {
	for (int n = threadIdx.x; n < p.blocks * p.each * 64; n += 256) {
		const int part = n / 64, x = n % 64, from = part / p.each * p.height + part % p.each * 16, to = min(from + 16, (part / p.each + 1) * p.height);
		float sum = 0;
		for (int r = from; r < to; r++) sum += s->a[r * kLine + x];
		s->sums[part][x] = sum;
	}
}

// add_blocks adds the sums of the parts to the blocks, [n, n] at `to` from the first block row of the tile on. A warp takes a block where it is
// wide, else a thread.
DEVICE void add_blocks(double *to, const BlockShared *s, const Parts &p, int j0, int t, int width, int n) {
	const int first = j0 / width, count = min(j0 + 63, t - 1) / width - first + 1;
	const bool wide = width >= 16;
	for (int i = wide ? warp() : threadIdx.x; i < p.blocks * count; i += wide ? 8 : 256) {
		const int r = i / count, c = first + i % count, from = max(c * width - j0, 0), end = min(c * width - j0 + width, 64);
		double sum = 0;
		for (int part = r * p.each; part < (r + 1) * p.each; part++)
			for (int x = from + (wide ? lane() : 0); x < end; x += wide ? 32 : 1) sum += s->sums[part][x];
		if (wide) sum = warp_sum(sum);
		if (!wide || lane() == 0) to[(long long)r * n + c] += sum;
	}
}

// attn_blocks adds to blocks, [heads, n, n] and zeros at first. A block of threads takes, of one query head, as many block rows as fit in
// 64 queries, or one that does not fit in pieces of 64 queries; so each sum has one writer. Blocks: heads*units, the last rows first.
template <int TERMS, bool KEPT, int STAGES>
DEVICE void attn_blocks(double *blocks, int width, int number, const uint16_t *q, const uint16_t *k, const float *lse, const int *masks, int heads, int group, int t, int tp, int panels, float scale) {
	using R = Ring<TERMS, 64, KEPT, STAGES, 1>;
	const int fit = width < 64 ? 64 / width : 1, units = (number + fit - 1) / fit;
	const int h = blockIdx.x % heads, unit = units - 1 - blockIdx.x / heads;
	const long long size = (long long)tp * panels * kPanel;
	const Rows queries = {q + h * size, heads * size, panels, tp}, keys = {k + h / group * size, heads / group * size, panels, tp}, none = {0, 0, 0, 0};
	const Mask mask = mask_of(masks, h / group);
	char *base = dynamic_shared();
	R ring;
	ring.begin(base, queries, keys, none, none);
	BlockShared *s = (BlockShared *)(base + ring_bytes<R>(panels));
	double *to = blocks + ((long long)h * number + (long long)unit * fit) * number;
	const int from = unit * fit * width, end = min(t, from + fit * width);
	for (int q0 = from; q0 < end; q0 += 64) {
		const int q1 = min(q0 + 64, end);
		Parts p;
		p.height = width < 64 ? width : q1 - q0;
		p.blocks = (q1 - q0 + p.height - 1) / p.height;
		p.each = (p.height + 15) / 16;
		const Lines lines = lines_of(lse + (long long)h * t, nullptr, q0, q1);
		ring.rows(q0);
		const Tiles tiles = key_tiles(mask, q0, q1, 64);
		for (int n = 0; n < tiles.count; n++) {
			const int j0 = tile_number(tiles, n) * 64;
			typename R::D x;
			ring.multiply(x, x, j0, n + 1 < tiles.count ? tile_number(tiles, n + 1) * 64 : -1);
			scores_store<false>(Scores{s->a, nullptr}, x, x, lines, mask, q0, j0, scale);
			__syncthreads();
			sum_parts(s, p);
			__syncthreads();
			add_blocks(to, s, p, j0, t, width, number);
		}
	}
}
