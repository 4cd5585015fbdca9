// The vector types of CUDA with their alignments.
#pragma once
#include <stdint.h>

#define EMU_VECTOR2(type, name, bytes)                                             \
	struct alignas(bytes) name##2 {                                                \
		type x, y;                                                                 \
	};                                                                             \
	inline name##2 make_##name##2(type x, type y) { return name##2{x, y}; }
#define EMU_VECTOR3(type, name)                                                    \
	struct name##3 {                                                               \
		type x, y, z;                                                              \
	};                                                                             \
	inline name##3 make_##name##3(type x, type y, type z) { return name##3{x, y, z}; }
#define EMU_VECTOR4(type, name, bytes)                                             \
	struct alignas(bytes) name##4 {                                                \
		type x, y, z, w;                                                           \
	};                                                                             \
	inline name##4 make_##name##4(type x, type y, type z, type w) { return name##4{x, y, z, w}; }
#define EMU_VECTORS(type, name, size)  \
	EMU_VECTOR2(type, name, 2 * size)  \
	EMU_VECTOR3(type, name)            \
	EMU_VECTOR4(type, name, (4 * size > 16 ? 16 : 4 * size))

EMU_VECTORS(signed char, char, 1)
EMU_VECTORS(unsigned char, uchar, 1)
EMU_VECTORS(short, short, 2)
EMU_VECTORS(unsigned short, ushort, 2)
EMU_VECTORS(int, int, 4)
EMU_VECTORS(unsigned, uint, 4)
EMU_VECTORS(float, float, 4)
EMU_VECTORS(long long, longlong, 8)
EMU_VECTORS(unsigned long long, ulonglong, 8)
EMU_VECTORS(double, double, 8)

#undef EMU_VECTORS
#undef EMU_VECTOR4
#undef EMU_VECTOR3
#undef EMU_VECTOR2
