// Finds races: accesses of two threads to one byte, one of them a write, that nothing orders. Kernels tell of every access where they
// are compiled for it.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <set>
#include <vector>

namespace emu {

// Access is when a byte was last written, or read, and by whom. Times are numbers of intervals between barriers, counted through all
// blocks and launches, which run one after the other.
struct Access {
	uint32_t interval = 0;
	uint16_t thread = 0; // or one of the kinds below
	uint16_t sync = 0;   // __syncwarp of its warp since the last barrier
};

// Cell is what is known of a byte.
struct Cell {
	Access write, read;
};

class Races {
public:
	void begin(uint64_t launch);
	void barrier();
	void sync(int warp) { syncs[warp]++; }
	// access notes an access of the running thread to n bytes. At a race it ends the process, or where
	// MODELPRESS_EMU_RACES is set, reports each place in the code once. from is where in the code it is.
	void access(const void *p, size_t n, bool write, const void *from);

private:
	// Whom several threads count as: several lanes of a warp, threads of several warps of the block, threads of several blocks.
	enum : uint16_t { lanes = 0x8000, block = 0xfffe, grid = 0xffff };

	void report(const Access &a, const char *at, bool write, bool read_before, const void *from);
	bool ordered(const Access &a, int thread) const;
	void note_read(Access &a, int thread) const;
	Cell *shared_cells(const void *p, size_t n);

	uint64_t launch = 0;
	uint32_t now = 0, block_start = 0, launch_start = 0;
	uint16_t syncs[32] = {};
	std::vector<Cell> dynamic, statics;
	std::set<const void *> reported; // places in code, where the process is to go on
};

// races_wanted reports whether there are kernels that tell of their accesses.
bool races_wanted();

// note_access is for accesses that the emulation makes for a thread.
void note_access(const void *p, size_t n, bool write);

} // namespace emu
