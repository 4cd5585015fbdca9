// The memory of the emulated device, and pinned memory of the host.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "here.h"

namespace emu {

// allocate returns memory full of ones, between pages that may not be touched, null where less is free.
void *allocate(size_t bytes);
// release gives memory back: whatever touches it from now on is stopped. It returns false for an address that is not the start of one.
bool release(void *p);
// check_memory fails where bytes just outside of an allocation were written.
void check_memory();
size_t total_memory();
size_t free_memory();

// in_device reports whether n bytes at p lie within one allocation of the device; its bounds are left where they are asked for.
EMU_API bool in_device(const void *p, size_t n, void **start = nullptr, size_t *bytes = nullptr);
// shadow returns what the emulation keeps beside n bytes of one allocation, size bytes for each, zero at first; null for other memory.
void *shadow(const void *p, size_t n, size_t size);
// describe says where an address lies.
const char *describe(const void *p, char *text, size_t size);

void *allocate_pinned(size_t bytes);
bool release_pinned(void *p);
bool register_pinned(void *p, size_t bytes);
bool unregister_pinned(void *p);
bool is_pinned(const void *p, size_t n);

} // namespace emu
