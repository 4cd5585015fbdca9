// The names that kernels are written in (kernels/common.cuh), as plain C++ on the emulation.
#pragma once
#include <type_traits>
#include <utility>

#include "functions.h"
#include "here.h"
#include "vectors.h"
#include "warp.h"

#define KERNEL(name) extern "C" void name
#define BOUNDED(name, threads, blocks)                                \
	static const ::emu::Bound name##_emu_bound(#name, threads, blocks); \
	extern "C" void name
#define EXPORT(name) static const ::emu::Export name##_emu_export(#name, name);
#define DEVICE inline __attribute__((always_inline))
#define SHARED static thread_local
#define UNROLL

#define __align__(n) __attribute__((aligned(n)))
#ifndef __restrict__
#define __restrict__ __restrict
#endif

#define threadIdx (::emu::here->thread)
#define blockIdx (::emu::here->block->index)
#define blockDim (::emu::here->block->size)
#define gridDim (::emu::here->block->count)

DEVICE char *dynamic_shared() { return emu::here->block->dynamic; }

inline void copy16_async(void *shared, const void *global, int bytes) { emu::copy16(shared, global, bytes); }
inline void copy_commit() { emu::copy_group(); }
template <int n>
inline void copy_wait() { emu::copy_finish(n); }

namespace emu {

// Parameters come in boxes of 8 bytes; these are the types that the launcher knows.
template <class P>
constexpr bool parameter = std::is_pointer<P>::value || std::is_same<P, int>::value || std::is_same<P, long long>::value ||
                           std::is_same<P, float>::value || std::is_same<P, double>::value;

template <class... P, size_t... i>
inline void call_with(void (*f)(P...), void *const *arguments, std::index_sequence<i...>) {
	f(*static_cast<std::remove_const_t<P> *>(arguments[i])...);
}
template <class... P>
void call(void (*f)(), void *const *arguments) {
	call_with(reinterpret_cast<void (*)(P...)>(f), arguments, std::index_sequence_for<P...>());
}

struct Export {
	template <class... P>
	Export(const char *name, void (*f)(P...)) {
		static_assert((parameter<std::remove_const_t<P>> && ...), "a parameter is a pointer, int, long long, float or double");
		static const int sizes[] = {(std::is_pointer<P>::value ? -8 : (int)sizeof(P))..., 0};
		add_kernel(Kernel{name, reinterpret_cast<void (*)()>(f), call<P...>, (int)sizeof...(P), sizes});
	}
};

struct Bound {
	Bound(const char *name, int threads, int) { add_bound(name, threads); }
};

} // namespace emu

// emu_anchor is thread-local memory of the library that the kernels are in: by it the emulation finds their shared variables.
extern "C" EMU_API char *emu_anchor() {
	static thread_local char byte;
	return &byte;
}
