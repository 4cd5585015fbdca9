//go:build amd64 && !noasm

package num

import "unsafe"

// The functions here return how many values, blocks or parts the kernels of blocks_amd64.s have done: all whole ones, or none.

func magnitudeBits(x []float32) (most uint32, done int) {
	n := len(x) &^ (storedStep - 1)
	switch {
	case n == 0 || level == levelGeneric:
		return 0, 0
	case level == levelAVX512:
		return magnitudeBitsAVX512(unsafe.Pointer(&x[0]), n), n
	}
	return magnitudeBitsAVX2(unsafe.Pointer(&x[0]), n), n
}

func quantizeQ8(dst []byte, src []float32) (most uint32, done int) {
	n := len(src)
	switch {
	case n == 0 || level == levelGeneric:
		return 0, 0
	case level == levelAVX512:
		return quantizeQ8AVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n/blockValues), n
	}
	return quantizeQ8AVX2(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n/blockValues), n
}

func blockExtremes(dst, x []float32, blocks int) int {
	switch {
	case blocks == 0 || level == levelGeneric:
		return 0
	case level == levelAVX512:
		blockExtremesAVX512(unsafe.Pointer(&dst[0]), unsafe.Pointer(&x[0]), blocks)
	default:
		blockExtremesAVX2(unsafe.Pointer(&dst[0]), unsafe.Pointer(&x[0]), blocks)
	}
	return blocks
}

func blockBounds(least, largest, x []float32, blocks int) int {
	switch {
	case blocks == 0 || level == levelGeneric:
		return 0
	case level == levelAVX512:
		blockBoundsAVX512(unsafe.Pointer(&least[0]), unsafe.Pointer(&largest[0]), unsafe.Pointer(&x[0]), blocks)
	default:
		blockBoundsAVX2(unsafe.Pointer(&least[0]), unsafe.Pointer(&largest[0]), unsafe.Pointer(&x[0]), blocks)
	}
	return blocks
}

func blockCodes(codes []byte, x, base, inv []float32, blocks int, add float32, top int32) int {
	switch {
	case blocks == 0 || level == levelGeneric:
		return 0
	case level == levelAVX512:
		blockCodesAVX512(unsafe.Pointer(&codes[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&base[0]), unsafe.Pointer(&inv[0]), blocks, add, top)
	default:
		blockCodesAVX2(unsafe.Pointer(&codes[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&base[0]), unsafe.Pointer(&inv[0]), blocks, add, top)
	}
	return blocks
}

func partCodes(codes []byte, x, add, step []float32, parts int, lo, hi, bias int32) int {
	switch {
	case parts == 0 || level == levelGeneric:
		return 0
	case level == levelAVX512:
		partCodesAVX512(unsafe.Pointer(&codes[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&add[0]), unsafe.Pointer(&step[0]), parts, lo, hi, bias)
	default:
		partCodesAVX2(unsafe.Pointer(&codes[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&add[0]), unsafe.Pointer(&step[0]), parts, lo, hi, bias)
	}
	return parts
}

func affineSearch(s *AffineSearch, n int, top float32, tries []float32) {
	switch level {
	case levelAVX512:
		affineSearchAVX512(s, n, top, tries)
	case levelAVX2:
		affineSearchAVX2(s, n, top, tries)
	default:
		affineSearchGeneric(s, n, top, tries)
	}
}

func scaleSearch(s *ScaleSearch, n int, top float32, tries []float32, tiny float32) {
	switch level {
	case levelAVX512:
		scaleSearchAVX512(s, n, top, tries, tiny)
	case levelAVX2:
		scaleSearchAVX2(s, n, top, tries, tiny)
	default:
		scaleSearchGeneric(s, n, top, tries, tiny)
	}
}

// transposeLanes is loadLanes of all lanes, n a multiple of 16; false where there is no kernel.
func transposeLanes(dst *[searchMost * searchLanes]float32, x []float32, n int) bool {
	x = x[:searchLanes*n]
	var rows [searchLanes]unsafe.Pointer
	for r := range rows {
		rows[r] = unsafe.Pointer(&x[n*r])
	}
	switch level {
	case levelAVX512:
		transpose16F32(unsafe.Pointer(dst), searchLanes, &rows, n)
	case levelAVX2:
		transpose8F32(unsafe.Pointer(dst), searchLanes, (*[8]unsafe.Pointer)(rows[:8]), n)
		transpose8F32(unsafe.Pointer(&dst[8]), searchLanes, (*[8]unsafe.Pointer)(rows[8:]), n)
	default:
		return false
	}
	return true
}

func rootWeights(w, x, importance []float32, sigma2 float32) int {
	n := len(w) &^ (storedStep - 1)
	switch {
	case n == 0 || level == levelGeneric:
		return 0
	case level == levelAVX512:
		rootWeightsAVX512(unsafe.Pointer(&w[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&importance[0]), n, sigma2)
	default:
		rootWeightsAVX2(unsafe.Pointer(&w[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&importance[0]), n, sigma2)
	}
	return n
}
