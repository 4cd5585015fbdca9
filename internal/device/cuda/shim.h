// The driver and the libraries of CUDA, opened by the running program.
#pragma once
#include <stddef.h>

// MAX_ARGUMENTS is the most that a kernel may have.
enum { MAX_ARGUMENTS = 48 };

// What became of the driver.
enum { DRIVER_NONE = 0, DRIVER_FAILED = 1, DRIVER_READY = 2 };

// driver_open looks for the driver, once, initializes it and says what became of that. code is what cuInit returned, text where the
// driver was found, or why it was not.
int driver_open(int *code, const char **text);

// library_open opens a shared library by its name where it is first found: in the directories of $MODELPRESS_CUDA_PATH, then where
// the dynamic linker looks, then in the usual places. NULL where it is in none; text gets the path or the reason. An entry "-" of
// $MODELPRESS_CUDA_PATH ends the search.
void *library_open(const char *name, char *text, size_t size);
void *library_symbol(void *library, const char *name);

// Functions of the driver that gorgonia.org/cu does not have.
int cuMemHostAlloc(void **p, size_t bytes, unsigned flags);
int cuFuncSetAttribute(void *function, int attribute, int value);
int cuGetErrorName(int code, const char **name);
int cuGetErrorString(int code, const char **text);

// launch_kernel queues a kernel whose n arguments lie in boxes of 8 bytes. gorgonia.org/cu has Go store pointers into memory of malloc
// as it was left, which the collector may take for its own.
int launch_kernel(void *function, const unsigned *grid, const unsigned *block, unsigned shared, void *stream, unsigned long long *boxes, int n);
