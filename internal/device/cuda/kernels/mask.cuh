// Which keys a query sees, and which tiles of scores there is anything to compute in.
#pragma once
#include "common.cuh"

// A mask lets query i see key j iff j <= i and (j < sink or i-j < recent); recent is at least 1, and the number of positions where the
// mask hides nothing. Both are at most the number of positions.
struct Mask {
	int sink, recent;
};

// mask_of reads the mask of a KV head from a table of pairs.
DEVICE Mask mask_of(const int *masks, int head) {
	Mask m;
	m.sink = masks[2 * head];
	m.recent = masks[2 * head + 1];
	return m;
}

DEVICE bool mask_sees(Mask m, int i, int j) { return j <= i && (j < m.sink || i - j < m.recent); }

// mask_hides: no query of [q0, q1) sees any key of [j0, j1).
DEVICE bool mask_hides(Mask m, int q0, int q1, int j0, int j1) { return j0 >= q1 || (j0 >= m.sink && q0 - j1 + 1 >= m.recent); }

// mask_shows: every query of [q0, q1) sees every key of [j0, j1).
DEVICE bool mask_shows(Mask m, int q0, int q1, int j0, int j1) { return j1 - 1 <= q0 && (j1 <= m.sink || q1 - 1 - j0 < m.recent); }

// Tiles are those numbered 0 to head-1, and then more from head+gap on, count in all.
struct Tiles {
	int head, gap, count;
};

DEVICE int tile_number(Tiles t, int n) { return n < t.head ? n : n + t.gap; }

// key_tiles are the tiles of width keys of which the queries [q0, q1) see some: those of sinks, and those of recent keys.
DEVICE Tiles key_tiles(Mask m, int q0, int q1, int width) {
	const int sinks = m.sink < q1 ? m.sink : q1, recent = q0 - m.recent + 1;
	const int from = recent > 0 ? recent / width : 0, head = (sinks + width - 1) / width;
	Tiles t;
	t.head = head < from ? head : from;
	t.gap = from - t.head;
	t.count = (q1 + width - 1) / width - t.gap;
	return t;
}

// query_tiles are the tiles of width queries, of t in all, that see some of the keys [j0, j1), j0 < t.
DEVICE Tiles query_tiles(Mask m, int j0, int j1, int t, int width) {
	const int recent = j1 - 1 + m.recent, last = j0 < m.sink || recent > t ? t : recent;
	Tiles r;
	r.head = 0;
	r.gap = j0 / width;
	r.count = (last + width - 1) / width - r.gap;
	return r;
}
