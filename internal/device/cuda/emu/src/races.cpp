#include "races.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "memory.h"

namespace emu {

static bool wanted;
bool races_wanted() { return wanted; }

void Races::begin(uint64_t serial) {
	now++;
	block_start = now;
	if (serial != launch) launch_start = now;
	launch = serial;
	memset(syncs, 0, sizeof syncs);
}

void Races::barrier() {
	now++;
	memset(syncs, 0, sizeof syncs);
}

// ordered reports whether an earlier access comes before what the thread does now, whatever the order in which threads run: it was
// in an earlier launch, before a barrier of this block, before a __syncwarp of both, or by the thread itself.
bool Races::ordered(const Access &a, int thread) const {
	if (a.interval < launch_start) return true;
	if (a.interval < block_start || a.thread == grid) return false;
	if (a.interval < now || a.thread == thread) return true;
	if (a.thread == block) return false;
	int warp = a.thread >= lanes ? a.thread - lanes : a.thread / 32;
	return warp == thread / 32 && a.sync < syncs[warp];
}

// note_read keeps so much of who reads that a later write finds one reader that it is not ordered with, if there is one.
void Races::note_read(Access &a, int thread) const {
	const Access own = {now, (uint16_t)thread, syncs[thread / 32]};
	if (a.interval >= launch_start && (a.interval < block_start || a.thread == grid)) {
		a = Access{now, grid, 0};
	} else if (a.interval < now || a.thread == thread) {
		a = own;
	} else if (a.thread == block || (a.thread >= lanes ? a.thread - lanes : a.thread / 32) != thread / 32) {
		a = Access{now, block, 0};
	} else {
		a = a.sync < own.sync ? own : Access{now, (uint16_t)(lanes + thread / 32), own.sync};
	}
}

// where says in which line of which source an address of code is, as far as that is known.
static void where(const void *from, char *text, size_t size) {
	text[0] = 0;
	Dl_info info;
	if (!from || !dladdr(from, &info)) return;
	char command[600];
	snprintf(command, sizeof command, "addr2line -e '%s' %#zx 2>/dev/null", info.dli_fname, (size_t)from - (size_t)info.dli_fbase - 1);
	FILE *f = popen(command, "r");
	if (!f) return;
	char line[400];
	if (fgets(line, sizeof line, f)) {
		line[strcspn(line, " \n")] = 0;
		const char *base = strrchr(line, '/');
		snprintf(text, size, "%s: ", base ? base + 1 : line);
	}
	pclose(f);
}

void Races::report(const Access &a, const char *at, bool write, bool read_before, const void *from) {
	static const bool all = getenv("MODELPRESS_EMU_RACES");
	if (all && !reported.insert(from).second) return;
	char line[420], address[200], who[60] = "a thread of another block";
	where(from, line, sizeof line);
	if (a.interval >= block_start && a.thread < lanes) snprintf(who, sizeof who, "thread %d", a.thread);
	if (a.thread >= lanes && a.thread < block) snprintf(who, sizeof who, "other lanes of its warp");
	if (a.thread == block) snprintf(who, sizeof who, "threads of other warps");
	(all ? complain : fail)("%s%s what %s %s, and nothing orders the two: %s", line, write ? "writes" : "reads", who, read_before ? "read" : "wrote",
	                        machine->describe_shared(at, address, sizeof address) ? address : describe(at, address, sizeof address));
}

void Races::access(const void *p, size_t n, bool write, const void *from) {
	bool shared = true;
	Cell *cells = shared_cells(p, n);
	if (!cells) {
		shared = false;
		cells = static_cast<Cell *>(shadow(p, n, sizeof(Cell)));
		if (!cells) return;
	}
	const int thread = machine->thread().number;
	for (size_t i = 0; i < n; i++) {
		Cell &c = cells[i];
		// Shared memory is another one in every block.
		bool old = shared && c.write.interval < block_start, unread = shared && c.read.interval < block_start;
		bool after_write = old || ordered(c.write, thread), after_read = !write || unread || ordered(c.read, thread);
		if (after_write && after_read) {
			if (write) {
				c.write = Access{now, (uint16_t)thread, syncs[thread / 32]};
			} else if (unread) {
				c.read = Access{now, (uint16_t)thread, syncs[thread / 32]};
			} else {
				note_read(c.read, thread);
			}
			continue;
		}
		report(after_write ? c.read : c.write, static_cast<const char *>(p) + i, write, after_write, from);
		(write ? c.write : c.read) = Access{now, (uint16_t)thread, syncs[thread / 32]};
	}
}

Cell *Races::shared_cells(const void *p, size_t n) {
	bool fixed;
	long at = machine->shared_offset(p, n, fixed);
	if (at < 0) return nullptr;
	auto &cells = fixed ? statics : dynamic;
	if (cells.size() < (size_t)at + n) cells.resize(at + n);
	return &cells[at];
}

void note_access(const void *p, size_t n, bool write) {
	if (wanted) machine->races()->access(p, n, write, nullptr);
}

} // namespace emu

// What gcc -fsanitize=thread calls at loads, stores and atomic operations (its interface to libtsan). Atomic operations do not race.
static inline void told(const void *p, size_t n, bool write, const void *from) {
	emu::Machine *m = emu::machine;
	if (m && emu::here && !m->on_stack(p)) m->races()->access(p, n, write, from);
}

extern "C" {
EMU_API void __tsan_init() { emu::wanted = true; }
EMU_API void __tsan_func_entry(void *) {}
EMU_API void __tsan_func_exit() {}
#define SIZED(n)                                                                                               \
	EMU_API void __tsan_read##n(void *p) { told(p, n, false, __builtin_return_address(0)); }                   \
	EMU_API void __tsan_write##n(void *p) { told(p, n, true, __builtin_return_address(0)); }                   \
	EMU_API void __tsan_volatile_read##n(void *p) { told(p, n, false, __builtin_return_address(0)); }          \
	EMU_API void __tsan_volatile_write##n(void *p) { told(p, n, true, __builtin_return_address(0)); }          \
	EMU_API void __tsan_unaligned_read##n(void *p) { told(p, n, false, __builtin_return_address(0)); }         \
	EMU_API void __tsan_unaligned_write##n(void *p) { told(p, n, true, __builtin_return_address(0)); }
SIZED(1)
SIZED(2)
SIZED(4)
SIZED(8)
SIZED(16)
EMU_API void __tsan_read_range(void *p, size_t n) { told(p, n, false, __builtin_return_address(0)); }
EMU_API void __tsan_write_range(void *p, size_t n) { told(p, n, true, __builtin_return_address(0)); }
#define ATOMIC(bits, type)                                                                                                             \
	EMU_API type __tsan_atomic##bits##_load(const type *p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }                       \
	EMU_API void __tsan_atomic##bits##_store(type *p, type x, int) { __atomic_store_n(p, x, __ATOMIC_SEQ_CST); }                       \
	EMU_API type __tsan_atomic##bits##_exchange(type *p, type x, int) { return __atomic_exchange_n(p, x, __ATOMIC_SEQ_CST); }          \
	EMU_API type __tsan_atomic##bits##_fetch_add(type *p, type x, int) { return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST); }          \
	EMU_API type __tsan_atomic##bits##_fetch_and(type *p, type x, int) { return __atomic_fetch_and(p, x, __ATOMIC_SEQ_CST); }          \
	EMU_API type __tsan_atomic##bits##_fetch_or(type *p, type x, int) { return __atomic_fetch_or(p, x, __ATOMIC_SEQ_CST); }            \
	EMU_API int __tsan_atomic##bits##_compare_exchange_strong(type *p, type *old, type x, int, int) {                                  \
		return __atomic_compare_exchange_n(p, old, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                      \
	}                                                                                                                                  \
	EMU_API int __tsan_atomic##bits##_compare_exchange_weak(type *p, type *old, type x, int, int) {                                    \
		return __atomic_compare_exchange_n(p, old, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                      \
	}
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)
EMU_API void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
}
