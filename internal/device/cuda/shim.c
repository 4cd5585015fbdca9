//go:build cuda

// gorgonia.org/cu links the driver, calls cuInit before main and ends the process where that fails. Here are all functions that it
// links. Each jumps to where its slot points: to closed until the driver is open, then into libcuda. cuInit succeeds without doing
// anything, so a program starts on any machine.

#include "shim.h"
#include <dlfcn.h>
#include <pthread.h>

// Results of CUresult that do not come from the driver.
enum { INVALID_VALUE = 1, NOT_INITIALIZED = 3, NOT_FOUND = 500 };

static int closed(void) { return NOT_INITIALIZED; }
static int missing(void) { return NOT_FOUND; }

#if defined(__x86_64__)
#define JUMP(name) "\tjmp *slot_" #name "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(name) "\tadrp x16, slot_" #name "\n\tldr x16, [x16, :lo12:slot_" #name "]\n\tbr x16\n"
#else
#error "no jump for this processor"
#endif

// The names are hidden: they stay within the program, and libraries that it opens do not see them.
#define X(name)                                                                                                                   \
	__attribute__((used, visibility("hidden"))) void *slot_##name = closed;                                                          \
	__asm__(".text\n\t.p2align 4\n\t.globl " #name "\n\t.hidden " #name "\n\t.type " #name ", %function\n" #name ":\n" JUMP(name)    \
	        "\t.size " #name ", .-" #name "\n");
#define EXTRA X(cuMemHostAlloc) X(cuFuncSetAttribute) X(cuGetErrorName) X(cuGetErrorString)
#include "symbols.h"
EXTRA
#undef X

#define X(name) {#name, &slot_##name},
static const struct {
	const char *name;
	void **slot;
} slots[] = {
#include "symbols.h"
    EXTRA};
#undef X

int cuInit(unsigned flags) {
	(void)flags;
	return 0;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int state = DRIVER_NONE, status = NOT_INITIALIZED;
static char where[1024];

static void open_driver(void) {
	void *driver = library_open("libcuda.so.1", where, sizeof where);
	if (!driver) return;
	int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
	status = init ? init(0) : NOT_FOUND;
	state = status == 0 ? DRIVER_READY : DRIVER_FAILED;
	for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
		void *f = dlsym(driver, slots[i].name);
		*slots[i].slot = f ? f : (void *)missing;
	}
}

int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                   unsigned shared, void *stream, void **parameters, void **extra);

int launch_kernel(void *function, const unsigned *grid, const unsigned *block, unsigned shared, void *stream, unsigned long long *boxes, int n) {
	void *parameters[MAX_ARGUMENTS];
	if (n > MAX_ARGUMENTS) return INVALID_VALUE;
	for (int i = 0; i < n; i++) parameters[i] = &boxes[i];
	return cuLaunchKernel(function, grid[0], grid[1], grid[2], block[0], block[1], block[2], shared, stream, parameters, NULL);
}

int driver_open(int *code, const char **text) {
	pthread_once(&once, open_driver);
	*code = status;
	*text = where;
	return state;
}
