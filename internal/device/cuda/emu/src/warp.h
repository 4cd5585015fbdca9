// What the lanes of a warp do together.
#pragma once
#include <stdint.h>
#include <string.h>

#include "here.h"

namespace emu {

struct Shuffle {
	uint64_t value; // what the lane gives, then what it gets
	int source;     // the lane that it gets it from
};
EMU_API void shuffle_lanes(void *const *lanes, unsigned mask);

struct Vote {
	int predicate;
	unsigned ballot;
};
EMU_API void vote_lanes(void *const *lanes, unsigned mask);
EMU_API void sync_lanes(void *const *lanes, unsigned mask);

struct Mma {
	float *d;
	const uint32_t *a, *b;
};
EMU_API void mma_lanes(void *const *lanes, unsigned mask);

struct Matrix {
	uint32_t *r;
	const void *row;
};
EMU_API void matrix_lanes(void *const *lanes, unsigned mask);
EMU_API void matrix_trans_lanes(void *const *lanes, unsigned mask);
// check_row fails unless 16 bytes of shared memory, aligned, begin there.
EMU_API void check_row(const void *row);

template <class T>
inline T shuffle(const char *name, int line, unsigned mask, T x, int source) {
	static_assert(sizeof(T) <= 8, "shuffles are of 4 or 8 bytes");
	Shuffle s = {0, source};
	memcpy(&s.value, &x, sizeof x);
	collective(name, line, mask, shuffle_lanes, &s);
	memcpy(&x, &s.value, sizeof x);
	return x;
}

inline unsigned vote(const char *name, int line, unsigned mask, int predicate) {
	Vote v = {predicate, 0};
	collective(name, line, mask, vote_lanes, &v);
	return v.ballot;
}

} // namespace emu

// The line is where the caller stands: lanes that meet must be at the same one.
#define EMU_LINE int emu_line = __builtin_LINE()

// A source outside of the lane's segment of width lanes means its own value (PTX ISA, shfl.sync).
template <class T>
inline T __shfl_sync(unsigned mask, T x, int source, int width = 32, EMU_LINE) {
	int lane = emu::here->number & 31;
	return emu::shuffle("__shfl_sync", emu_line, mask, x, (lane & -width) | (source & (width - 1)));
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32, EMU_LINE) {
	int lane = emu::here->number & 31, from = lane ^ bits;
	return emu::shuffle("__shfl_xor_sync", emu_line, mask, x, from <= (lane | (width - 1)) ? from : lane);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T x, unsigned delta, int width = 32, EMU_LINE) {
	int lane = emu::here->number & 31, from = lane - (int)delta;
	return emu::shuffle("__shfl_up_sync", emu_line, mask, x, from >= (lane & -width) ? from : lane);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = 32, EMU_LINE) {
	int lane = emu::here->number & 31, from = lane + (int)delta;
	return emu::shuffle("__shfl_down_sync", emu_line, mask, x, from <= (lane | (width - 1)) ? from : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_LINE) { return emu::vote("__ballot_sync", emu_line, mask, predicate); }
inline int __any_sync(unsigned mask, int predicate, EMU_LINE) { return emu::vote("__any_sync", emu_line, mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate, EMU_LINE) { return emu::vote("__all_sync", emu_line, mask, predicate) == mask; }
inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_LINE) { emu::collective("__syncwarp", emu_line, mask, emu::sync_lanes, nullptr); }

inline void __syncthreads(EMU_LINE) { emu::barrier(emu_line, 0); }
inline int __syncthreads_count(int predicate, EMU_LINE) { return emu::barrier(emu_line, predicate != 0); }
inline int __syncthreads_or(int predicate, EMU_LINE) { return emu::barrier(emu_line, predicate != 0) != 0; }
inline int __syncthreads_and(int predicate, EMU_LINE) { return emu::barrier(emu_line, predicate == 0) == 0; }

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMU_LINE) {
	emu::Mma m = {d, a, b};
	emu::collective("mma_bf16", emu_line, 0xffffffffu, emu::mma_lanes, &m);
}
inline void ldmatrix4(uint32_t (&r)[4], const void *row, EMU_LINE) {
	emu::check_row(row);
	emu::Matrix m = {r, row};
	emu::collective("ldmatrix4", emu_line, 0xffffffffu, emu::matrix_lanes, &m);
}
inline void ldmatrix4_trans(uint32_t (&r)[4], const void *row, EMU_LINE) {
	emu::check_row(row);
	emu::Matrix m = {r, row};
	emu::collective("ldmatrix4_trans", emu_line, 0xffffffffu, emu::matrix_trans_lanes, &m);
}
