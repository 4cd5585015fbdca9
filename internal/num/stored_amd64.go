//go:build amd64 && !noasm

package num

import "unsafe"

// storedStep is how many values the kernels of stored_amd64.s take at once; what is left is done in plain Go.
const storedStep = 32

// The kernels return how many values they have done.

func decodeBF16(dst []float32, src []byte) int {
	n := len(dst) &^ (storedStep - 1)
	switch {
	case n == 0:
	case level == levelAVX512:
		decodeBF16AVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	case level == levelAVX2:
		decodeBF16AVX2(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	default:
		return 0
	}
	return n
}

func decodeF16(dst []float32, src []byte) int {
	n := len(dst) &^ (storedStep - 1)
	switch {
	case n == 0:
	case level == levelAVX512:
		decodeF16AVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	case level == levelAVX2:
		decodeF16AVX2(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	default:
		return 0
	}
	return n
}

func encodeBF16(dst []byte, src []float32) int {
	n := len(src) &^ (storedStep - 1)
	switch {
	case n == 0:
	case level == levelAVX512:
		encodeBF16AVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	case level == levelAVX2:
		encodeBF16AVX2(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	default:
		return 0
	}
	return n
}

func encodeF16(dst []byte, src []float32) int {
	n := len(src) &^ (storedStep - 1)
	switch {
	case n == 0:
	case level == levelAVX512:
		encodeF16AVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	case level == levelAVX2:
		encodeF16AVX2(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
	default:
		return 0
	}
	return n
}
