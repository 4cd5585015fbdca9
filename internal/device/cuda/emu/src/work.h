// What libraries on top of the driver need of it.
#pragma once
#include <stddef.h>

#include <functional>

#include "here.h"

namespace emu {

// enqueue queues work on a stream and returns 0, or the result of the driver that says why not.
EMU_API int enqueue(void *stream, const char *name, std::function<int()> work);

// check_device ends the process unless n bytes at p are memory of the device.
EMU_API void check_device(const char *call, const char *argument, const void *p, size_t n);

// scribble overwrites a workspace, as a library may.
EMU_API void scribble(void *p, size_t n);

} // namespace emu
