package ggml

// The simple types with importance: the search of the K types in blocks of 32, its weights from the mean square of the row.

func weightedQ4_0(dst []byte, src, importance []float32) {
	sigma2, codes := sumSquares(src)/float32(len(src)), [32]byte{}
	for len(src) >= 32 && len(dst) >= 18 {
		putF16(dst, weightedScale(&codes, src[:32], importance[:32], sigma2, 8))
		putFour((*[16]byte)(dst[2:]), &codes)
		src, importance, dst = src[32:], importance[32:], dst[18:]
	}
}

func weightedQ5_0(dst []byte, src, importance []float32) {
	sigma2, codes := sumSquares(src)/float32(len(src)), [32]byte{}
	for len(src) >= 32 && len(dst) >= 22 {
		putF16(dst, weightedScale(&codes, src[:32], importance[:32], sigma2, 16))
		putFive(dst[2:22], &codes)
		src, importance, dst = src[32:], importance[32:], dst[22:]
	}
}

func weightedQ4_1(dst []byte, src, importance []float32) {
	sigma2, codes := sumSquares(src)/float32(len(src)), [32]byte{}
	for len(src) >= 32 && len(dst) >= 20 {
		f := weightedAffine(&codes, src[:32], importance[:32], sigma2, weightedSteps4)
		putF16(dst, f.scale)
		putF16(dst[2:], -f.min)
		putFour((*[16]byte)(dst[4:]), &codes)
		src, importance, dst = src[32:], importance[32:], dst[20:]
	}
}

func weightedQ5_1(dst []byte, src, importance []float32) {
	sigma2, codes := sumSquares(src)/float32(len(src)), [32]byte{}
	for len(src) >= 32 && len(dst) >= 24 {
		f := weightedAffine(&codes, src[:32], importance[:32], sigma2, weightedSteps5)
		putF16(dst, f.scale)
		putF16(dst[2:], -f.min)
		putFive(dst[4:24], &codes)
		src, importance, dst = src[32:], importance[32:], dst[24:]
	}
}

// weightedScale returns the scale of a block and the codes, from 0 to 2·top-1.
func weightedScale(codes *[32]byte, x, importance []float32, sigma2, top float32) float32 {
	var w [32]float32
	importantWeights(w[:], x, importance, sigma2)
	f := searchScale(x, w[:], top)
	for i, v := range x {
		codes[i] = byte(signedCode(v, f.inv, top) + top)
	}
	if f.inv == 0 {
		clear(codes[:])
	}
	return f.scale
}

// weightedAffine returns the grid of a block and the codes.
func weightedAffine(codes *[32]byte, x, importance []float32, sigma2 float32, steps *affineSteps) affineFit {
	var w [32]float32
	importantWeights(w[:], x, importance, sigma2)
	f := steps.search(x, w[:])
	for i, v := range x {
		codes[i] = byte(steps.code(v, f))
	}
	return f
}
