// What the environment says. It is read at every use, so a program may change it between calls.
#pragma once
#include <stdint.h>

#include "here.h"
#include "schedule.h"

namespace emu {

// number reads a variable, fallback where it is not set; what is no number ends the process.
EMU_API int64_t number_setting(const char *name, int64_t fallback);

// Schedule of threads and blocks: MODELPRESS_EMU_SCHEDULE is "up", "down" or "random:SEED".
Schedule schedule_setting();

// Streams of MODELPRESS_EMU_STREAMS: lazy runs nothing before something waits for it, ahead besides runs all other streams as far as
// they can go before the one that is waited for, eager runs everything at once, random:SEED lets any stream go on at any call.
enum class Streams { lazy, ahead, eager, random };
Streams streams_setting(uint64_t &seed);

// fault returns the result that MODELPRESS_EMU_FAIL wants for this call, 0 for none. It is a list of KIND:N:CODE, for the n-th call of
// a kind from when the variable got its value. Kinds are launch, alloc, pinned, copy, module and blas.
EMU_API int fault(const char *kind);

} // namespace emu
