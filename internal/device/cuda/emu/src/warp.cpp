#include "warp.h"

#include "machine.h"

namespace emu {

template <class T>
static T &of(void *const *lanes, int lane) {
	return *static_cast<T *>(lanes[lane]);
}

void shuffle_lanes(void *const *lanes, unsigned mask) {
	uint64_t got[32];
	for (unsigned rest = mask; rest; rest &= rest - 1) {
		int l = __builtin_ctz(rest), from = of<Shuffle>(lanes, l).source & 31;
		if (!(mask >> from & 1)) fail("lane %d shuffles from lane %d, which is not in mask %08x", l, from, mask);
		got[l] = of<Shuffle>(lanes, from).value;
	}
	for (unsigned rest = mask; rest; rest &= rest - 1) {
		int l = __builtin_ctz(rest);
		of<Shuffle>(lanes, l).value = got[l];
	}
}

void vote_lanes(void *const *lanes, unsigned mask) {
	unsigned ballot = 0;
	for (unsigned rest = mask; rest; rest &= rest - 1) {
		int l = __builtin_ctz(rest);
		if (of<Vote>(lanes, l).predicate) ballot |= 1u << l;
	}
	for (unsigned rest = mask; rest; rest &= rest - 1) of<Vote>(lanes, __builtin_ctz(rest)).ballot = ballot;
}

void sync_lanes(void *const *, unsigned) {}

void check_row(const void *row) {
	if ((uintptr_t)row % 16) fail("address %p of a row of ldmatrix is not aligned to 16 bytes", row);
	if (!machine->is_shared(row, 16)) fail("address %p of a row of ldmatrix is not in shared memory", row);
	note_access(row, 16, false);
}

// The words of matrix i's row r stand at the address that lane 8i+r gave; lane l gets word l%4 of row l/4 (PTX ISA, ldmatrix).
void matrix_lanes(void *const *lanes, unsigned) {
	uint32_t words[4][32];
	for (int l = 0; l < 32; l++) memcpy(&words[l / 8][l % 8 * 4], of<Matrix>(lanes, l).row, 16);
	for (int l = 0; l < 32; l++)
		for (int i = 0; i < 4; i++) of<Matrix>(lanes, l).r[i] = words[i][l];
}

// With .trans each matrix is loaded in column-major order: lane l gets the elements at rows 2(l%4) and 2(l%4)+1 of column l/4.
void matrix_trans_lanes(void *const *lanes, unsigned) {
	uint16_t values[4][8][8];
	for (int l = 0; l < 32; l++) memcpy(values[l / 8][l % 8], of<Matrix>(lanes, l).row, 16);
	for (int l = 0; l < 32; l++)
		for (int i = 0; i < 4; i++) {
			int row = l % 4 * 2, column = l / 4;
			of<Matrix>(lanes, l).r[i] = values[i][row][column] | (uint32_t)values[i][row + 1][column] << 16;
		}
}

} // namespace emu
