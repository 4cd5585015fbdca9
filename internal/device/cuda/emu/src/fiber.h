// Stacks that a thread of the system switches between.
#pragma once
#include <stddef.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emu {

// Fiber is a flow of control that stands still, or runs.
struct Fiber {
#ifdef __x86_64__
	void *stack; // where it stands
#else
	ucontext_t context;
#endif
};

// Stacks are n equal stacks, each with a page below it that may not be touched.
class Stacks {
public:
	explicit Stacks(int n);
	~Stacks();
	// prepare makes f begin with entry on stack i at the next switch to it. entry must not return.
	void prepare(Fiber &f, int i, void (*entry)());

	bool has(const void *p) const { return p >= memory && p < memory + bytes; }

private:
	char *memory;
	size_t bytes;
};

// switch_fiber leaves one fiber standing and goes on with another.
void switch_fiber(Fiber &from, Fiber &to);

} // namespace emu
