// Where a thread of an emulated kernel is, and what it can call of the emulation.
#pragma once
#include <stdint.h>

namespace emu {

struct Dim {
	unsigned x, y, z;
};

// Block is what all threads of a block see.
struct Block {
	Dim index, size, count; // blockIdx, blockDim, gridDim
	char *dynamic;          // dynamic shared memory
};

// Here is what one thread sees.
struct Here {
	Dim thread;
	int number; // of the thread in its block
	const Block *block;
};

// here is the thread that runs. It changes at every switch of fibers, and each fiber finds its own.
extern __thread Here *here __attribute__((tls_model("initial-exec"), visibility("default")));

#define EMU_API __attribute__((visibility("default")))

// Operation does the work of a collective for all lanes of mask; lanes holds what each gave.
using Operation = void (*)(void *const *lanes, unsigned mask);

// collective waits for all lanes of mask and has the last one to arrive run the operation.
EMU_API void collective(const char *name, int line, unsigned mask, Operation operation, void *arguments);

// barrier waits for all threads of the block; vote is what the thread says, and the result the votes of all: their number that
// are not zero.
EMU_API int barrier(int line, int vote);

// Copies that are under way: copy16 starts one, copy_group closes a group, copy_finish carries out all groups but the last n.
EMU_API void copy16(void *shared, const void *global, int bytes);
EMU_API void copy_group();
EMU_API void copy_finish(int n);

// fail ends the process with a message that names the kernel, the block and the thread.
[[noreturn]] EMU_API void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// complain writes the same message and goes on.
EMU_API void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Kernel is a kernel as its source registers it.
struct Kernel {
	const char *name;
	void (*function)();
	void (*call)(void (*function)(), void *const *arguments);
	int count;        // parameters
	const int *sizes; // of each, negative for pointers
};
EMU_API void add_kernel(const Kernel &kernel);
EMU_API void add_bound(const char *name, int threads);

} // namespace emu
