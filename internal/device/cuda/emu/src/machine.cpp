#include "machine.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "warp.h"

namespace emu {

__thread Here *here __attribute__((tls_model("initial-exec")));
__thread Machine *machine __attribute__((tls_model("initial-exec")));

static const size_t page = 4096;

Machine::Machine() : stacks(max_threads), threads(max_threads) {
	for (int i = max_threads - 1; i >= 0; i--) spare.push_back(i);
	size_t bytes = (max_shared + page - 1) / page * page;
	void *p = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		perror("emu: shared memory");
		abort();
	}
	dynamic_end = static_cast<char *>(p) + bytes;
	mprotect(dynamic_end, page, PROT_NONE);
}

// The entry of every fiber.
static void begin() {
	Machine *m = machine;
	const Launch &l = m->launch();
	l.kernel->call(l.kernel->function, l.arguments);
	m->end();
	__builtin_unreachable();
}

void Machine::run(const Launch &launch, Dim index) {
	current = &launch;
	block.index = index;
	block.size = launch.size;
	block.count = launch.count;
	size = launch.size.x * launch.size.y * launch.size.z;
	ended = arrived = votes = 0;
	random = Random(launch.schedule.seed ^ (index.x + 0x10001ull * index.y + 0x100000001ull * index.z));
	prepare_shared();
	race.begin(launch.serial);
	ready.clear();
	for (auto &w : warps) w.waiting = 0;
	for (int i = 0; i < size; i++) {
		Thread &t = threads[i];
		t.thread = {i % block.size.x, i / block.size.x % block.size.y, i / block.size.x / block.size.y};
		t.number = i;
		t.block = &block;
		t.at = At::run;
		t.copies.clear();
		t.group = 0;
		t.stack = -1;
		ready.add(i);
	}
	machine = this;
	int i = choose();
	here = &threads[i];
	switch_fiber(home, threads[i].fiber);
	spare.push_back(left);
	left = -1;
	here = nullptr;
	machine = nullptr;
	check_shared();
}

// choose takes the thread that runs next out of those that can, -1 where none can.
int Machine::choose() {
	int i;
	switch (current->schedule.kind) {
	case Schedule::up: i = ready.first(); break;
	case Schedule::down: i = ready.last(); break;
	default: i = ready.from(random.below(size));
	}
	if (i < 0) return i;
	ready.remove(i);
	if (threads[i].stack < 0) start(threads[i]);
	return i;
}

// start gives a thread a stack. Threads that never wait come and go on the same two.
void Machine::start(Thread &t) {
	t.stack = spare.back();
	spare.pop_back();
	stacks.prepare(t.fiber, t.stack, begin);
}

// leave lets others run until this thread can go on. Threads that could run and do not are in ready.
void Machine::leave() {
	Thread &t = thread();
	int i = choose();
	if (i < 0) stuck();
	if (i == t.number) return;
	here = &threads[i];
	switch_fiber(t.fiber, threads[i].fiber);
}

void Machine::end() {
	Thread &t = thread();
	t.at = At::end;
	ended++;
	if (left >= 0) spare.push_back(left);
	left = t.stack;
	int i = choose();
	if (i >= 0) {
		here = &threads[i];
		switch_fiber(t.fiber, threads[i].fiber);
	}
	if (ended < size) stuck();
	switch_fiber(t.fiber, home);
}

int Machine::barrier(int line, int vote) {
	Thread &t = thread();
	t.at = At::barrier;
	t.line = line;
	votes += vote;
	if (arrived++ == 0) first_there = t.number;
	const Thread &o = threads[first_there];
	if (o.line != line) fail("waits at __syncthreads of line %d and thread %d at that of line %d", line, o.number, o.line);
	if (arrived == size) {
		ready.add(0, size);
		result = votes;
		arrived = votes = 0;
		race.barrier();
	}
	leave();
	t.at = At::run;
	return result;
}

void Machine::collective(const char *name, int line, unsigned mask, Operation operation, void *arguments) {
	Thread &t = thread();
	Warp &w = warps[t.number / 32];
	int lane = t.number & 31, first = t.number - lane;
	unsigned there = size - first >= 32 ? ~0u : (1u << (size - first)) - 1;
	if (!(mask >> lane & 1)) fail("%s of line %d: lane %d is not in its mask %08x", name, line, lane, mask);
	if (mask & ~there) fail("%s of line %d: mask %08x has lanes that the block of %d threads has not", name, line, mask, size);
	t.at = At::collective;
	t.line = line;
	t.name = name;
	t.mask = mask;
	t.operation = operation;
	w.arguments[lane] = arguments;
	const bool alone = w.waiting == 0;
	w.alike = alone || (w.alike && w.operation == operation && w.line == line && w.mask == mask);
	w.operation = operation;
	w.line = line;
	w.mask = mask;
	w.waiting |= 1u << lane;
	if ((w.waiting & mask) == mask) {
		for (unsigned rest = w.alike ? 0 : mask; rest; rest &= rest - 1) {
			const Thread &o = threads[first + __builtin_ctz(rest)];
			if (o.mask != mask || o.operation != operation || o.line != line)
				fail("%s of line %d, mask %08x, meets thread %d at %s of line %d, mask %08x", name, line, mask, o.number, o.name,
				     o.line, o.mask);
		}
		operation(w.arguments, mask);
		if (operation == sync_lanes && mask == there) race.sync(t.number / 32);
		w.waiting &= ~mask;
		ready.add_lanes(first, mask);
	}
	leave();
	t.at = At::run;
}

// stuck ends the process where threads wait for what cannot come.
void Machine::stuck() {
	const Thread *waiting = nullptr, *other = nullptr;
	for (int i = 0; i < size; i++)
		if (threads[i].at != At::end && !waiting) waiting = &threads[i];
	for (int i = 0; i < size && waiting; i++) {
		const Thread &o = threads[i];
		bool same = o.at == waiting->at && o.line == waiting->line;
		if (waiting->at == At::collective && (o.number / 32 != waiting->number / 32 || !(waiting->mask >> (o.number & 31) & 1))) continue;
		if (!same && !other) other = &o;
	}
	here = const_cast<Thread *>(waiting);
	auto where = [](const Thread *t, char *text, size_t n) {
		if (t->at == At::end) snprintf(text, n, "has ended");
		if (t->at == At::barrier) snprintf(text, n, "waits at __syncthreads of line %d", t->line);
		if (t->at == At::collective) snprintf(text, n, "waits at %s of line %d, mask %08x", t->name, t->line, t->mask);
		return text;
	};
	char a[200] = "", b[200] = "";
	if (!other) fail("%s for ever", where(waiting, a, sizeof a));
	fail("%s, and thread %d %s", where(waiting, a, sizeof a), other->number, where(other, b, sizeof b));
}

// prepare_shared fills shared memory with ones: NaN in every floating-point format.
void Machine::prepare_shared() {
	block.dynamic = dynamic_end - (current->shared + 127) / 128 * 128;
	memset(block.dynamic, 0xff, dynamic_end - block.dynamic);
	if (anchor != current->anchor) {
		anchor = current->anchor;
		statics = nullptr;
		statics_size = 0;
		struct Find {
			char *anchor;
			Machine *m;
		} find = {anchor ? anchor() : nullptr, this};
		dl_iterate_phdr(
		    [](dl_phdr_info *info, size_t, void *data) {
			    Find &f = *static_cast<Find *>(data);
			    char *start = static_cast<char *>(info->dlpi_tls_data);
			    for (int i = 0; start && i < info->dlpi_phnum; i++) {
				    size_t n = info->dlpi_phdr[i].p_memsz;
				    if (info->dlpi_phdr[i].p_type != PT_TLS || f.anchor < start || f.anchor >= start + n) continue;
				    f.m->statics = start;
				    f.m->statics_size = n;
				    return 1;
			    }
			    return 0;
		    },
		    &find);
	}
	if (statics) memset(statics, 0xff, statics_size);
}

// check_shared fails where a kernel wrote behind its dynamic shared memory.
void Machine::check_shared() {
	for (char *p = block.dynamic + current->shared; p < dynamic_end; p++)
		if (*p != (char)0xff) fail("byte %ld of %d bytes of dynamic shared memory written", (long)(p - block.dynamic), current->shared);
}

bool Machine::is_shared(const void *p, size_t n) const {
	bool fixed;
	return shared_offset(p, n, fixed) >= 0;
}

long Machine::shared_offset(const void *p, size_t n, bool &fixed) const {
	const char *c = static_cast<const char *>(p);
	fixed = c >= statics && c + n <= statics + statics_size;
	if (fixed) return c - statics;
	return c >= block.dynamic && c + n <= block.dynamic + current->shared ? c - block.dynamic : -1;
}

const char *Machine::describe_shared(const void *p, char *text, size_t size) const {
	bool fixed;
	long at = shared_offset(p, 1, fixed);
	if (at < 0) return nullptr;
	snprintf(text, size, fixed ? "variables in shared memory" : "byte %ld of dynamic shared memory", at);
	return text;
}

long Machine::behind_shared(const void *p) const {
	const char *c = static_cast<const char *>(p);
	return c >= dynamic_end && c < dynamic_end + page ? c - block.dynamic : -1;
}

void collective(const char *name, int line, unsigned mask, Operation operation, void *arguments) {
	machine->collective(name, line, mask, operation, arguments);
}

int barrier(int line, int vote) { return machine->barrier(line, vote); }

} // namespace emu
