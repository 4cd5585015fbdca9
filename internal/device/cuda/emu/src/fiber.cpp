#include "fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

namespace emu {

static const size_t page = 4096, stack_size = 16 * page, stride = stack_size + page;

Stacks::Stacks(int n) : bytes(n * stride) {
	void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		perror("emu: stacks");
		abort();
	}
	memory = static_cast<char *>(p);
	for (int i = 0; i < n; i++) mprotect(memory + i * stride, page, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory, bytes); }

#ifdef __x86_64__

// Saves the registers that a callee keeps (System V ABI, AMD64), and takes up those of the other stack.
asm(R"(
	.text
	.p2align 4
	.type emu_switch_stack, @function
	.local emu_switch_stack
emu_switch_stack:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
	.size emu_switch_stack, .-emu_switch_stack
)");
extern "C" __attribute__((visibility("hidden"))) void emu_switch_stack(void **from, void *to);

void Stacks::prepare(Fiber &f, int i, void (*entry)()) {
	// Tops differ by some lines, so that stacks do not fall into the same set of a cache.
	char *top = memory + (i + 1) * stride - (i % 32) * 192 % (2 * page) / 64 * 64;
	void **p = reinterpret_cast<void **>(top);
	*--p = nullptr;                         // where entry finds a return address: it stands as after a call
	*--p = reinterpret_cast<void *>(entry); // what ret goes to
	for (int r = 0; r < 6; r++) *--p = nullptr;
	f.stack = p;
}

void switch_fiber(Fiber &from, Fiber &to) { emu_switch_stack(&from.stack, to.stack); }

#else

void Stacks::prepare(Fiber &f, int i, void (*entry)()) {
	getcontext(&f.context);
	f.context.uc_stack.ss_sp = memory + i * stride + page;
	f.context.uc_stack.ss_size = stack_size;
	f.context.uc_link = nullptr;
	makecontext(&f.context, entry, 0);
}

void switch_fiber(Fiber &from, Fiber &to) { swapcontext(&from.context, &to.context); }

#endif

} // namespace emu
