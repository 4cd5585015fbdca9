// A machine runs the blocks of a launch one after the other on one thread of the system, each thread of a block on a fiber.
#pragma once
#include <vector>

#include "fiber.h"
#include "here.h"
#include "races.h"
#include "schedule.h"

namespace emu {

enum { max_threads = 1024, max_shared = 227 << 10 };

// Launch is a grid of blocks of one kernel.
struct Launch {
	const Kernel *kernel;
	void *const *arguments;
	Dim count, size;
	int shared; // bytes of dynamic shared memory
	Schedule schedule;
	char *(*anchor)(); // thread-local memory of the kernel's library
	uint64_t serial;   // of the launch
};

// What a thread is at.
enum class At : uint8_t { run, barrier, collective, end };

// Copy is one of copy16_async that has not been waited for.
struct Copy {
	void *shared;
	const void *global;
	int bytes, group;
};

struct Thread : Here {
	Fiber fiber;
	At at;
	int stack;        // -1 before it begins
	int line;         // of the barrier or collective
	const char *name; // of the collective
	unsigned mask;
	Operation operation;
	std::vector<Copy> copies;
	int group; // of copies to come
};

struct Warp {
	unsigned waiting; // lanes at a collective
	bool alike;       // all of them at the same one, which is that of the last:
	int line;
	unsigned mask;
	Operation operation;
	void *arguments[32];
};

class Machine {
public:
	Machine();
	// run runs a block.
	void run(const Launch &launch, Dim index);

	// What the running thread calls:
	void collective(const char *name, int line, unsigned mask, Operation operation, void *arguments);
	int barrier(int line, int vote);
	void end();

	Thread &thread() { return static_cast<Thread &>(*here); }
	const Launch &launch() const { return *current; }
	// is_shared reports whether n bytes at p are shared memory of the block.
	bool is_shared(const void *p, size_t n) const;
	// behind_shared returns how far an address just behind dynamic shared memory is from its start, else -1.
	long behind_shared(const void *p) const;
	// shared_offset returns where n bytes are in the dynamic shared memory of the block, or in its fixed one; -1 if in neither.
	long shared_offset(const void *p, size_t n, bool &fixed) const;
	// describe_shared says so in words, and returns null if in neither.
	const char *describe_shared(const void *p, char *text, size_t size) const;
	bool on_stack(const void *p) const { return stacks.has(p); }
	Races *races() { return &race; }
	[[noreturn]] void stuck();

private:
	void prepare_shared();
	void check_shared();
	void leave();
	int choose();
	void start(Thread &t);

	Stacks stacks;
	std::vector<int> spare; // stacks that nobody stands on
	int left = -1;          // stack of the thread that ended last: it may still stand on it
	std::vector<Thread> threads;
	Warp warps[max_threads / 32];
	Set ready;
	int size, ended, arrived, votes, result;
	int first_there; // the thread that came first to the barrier
	Fiber home;
	const Launch *current = nullptr;
	Block block;
	Random random{0};
	Races race;
	char *dynamic_end;       // a page that may not be touched
	char *statics = nullptr; // variables in shared memory of the library that the kernel is in
	size_t statics_size = 0;
	char *(*anchor)() = nullptr;
};

// machine is that of this thread of the system, null outside of kernels.
extern __thread Machine *machine __attribute__((tls_model("initial-exec")));

// catch_signals has faults of kernels end the process with a message.
void catch_signals();

// run_launch runs all blocks of a launch and returns when they are done.
void run_launch(const Launch &launch, int workers);

} // namespace emu
