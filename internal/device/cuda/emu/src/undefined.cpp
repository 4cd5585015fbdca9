// Kernels are compiled with checks of the compiler for what C++ leaves undefined and a GPU does in its own way or faults on: accesses
// that are not aligned, indices outside of arrays, signed overflow, shifts by too much, division by zero. These are the functions that
// the checks call, by the interface of libubsan (LLVM, compiler-rt/lib/ubsan/ubsan_handlers.h).
#include "here.h"

namespace {

struct Place {
	const char *file;
	uint32_t line, column;
};

struct Mismatch {
	Place place;
	const void *type;
	unsigned char log_alignment, kind;
};

const char *base(const char *path) {
	const char *name = path;
	for (const char *p = path; *p; p++)
		if (*p == '/') name = p + 1;
	return name;
}

[[noreturn]] void report(const Place *p, const char *what) { emu::fail("%s:%u:%u: %s", base(p->file), p->line, p->column, what); }

} // namespace

extern "C" {
EMU_API void __ubsan_handle_type_mismatch_v1_abort(Mismatch *m, uintptr_t address) {
	emu::fail("%s:%u:%u: address %p is not aligned to %d bytes", base(m->place.file), m->place.line, m->place.column,
	          reinterpret_cast<void *>(address), 1 << m->log_alignment);
}
EMU_API void __ubsan_handle_out_of_bounds_abort(Place *p, uintptr_t index) {
	emu::fail("%s:%u:%u: index %ld is outside of the array", base(p->file), p->line, p->column, (long)index);
}
EMU_API void __ubsan_handle_add_overflow_abort(Place *p, uintptr_t, uintptr_t) { report(p, "a sum overflows"); }
EMU_API void __ubsan_handle_sub_overflow_abort(Place *p, uintptr_t, uintptr_t) { report(p, "a difference overflows"); }
EMU_API void __ubsan_handle_mul_overflow_abort(Place *p, uintptr_t, uintptr_t) { report(p, "a product overflows"); }
EMU_API void __ubsan_handle_negate_overflow_abort(Place *p, uintptr_t) { report(p, "a negation overflows"); }
EMU_API void __ubsan_handle_divrem_overflow_abort(Place *p, uintptr_t, uintptr_t) { report(p, "division by zero, or it overflows"); }
EMU_API void __ubsan_handle_shift_out_of_bounds_abort(Place *p, uintptr_t, uintptr_t) { report(p, "a shift by too much"); }
}
