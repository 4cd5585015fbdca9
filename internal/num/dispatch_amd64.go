//go:build amd64 && !noasm

package num

import "golang.org/x/sys/cpu"

// level is the instruction set in use.
var level int

func init() { setLevel(detect()) }

// Instruction sets, each including the ones before.
const (
	levelGeneric = iota
	levelAVX2    // AVX2, FMA and the half precision conversions
	levelAVX512  // AVX-512 F, DQ, BW and VL
)

// detect returns the best level of this processor and operating system.
func detect() int {
	x := &cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA || !x.HasBMI2 || !x.HasF16C:
		return levelGeneric
	case !x.HasAVX512F || !x.HasAVX512DQ || !x.HasAVX512BW || !x.HasAVX512VL:
		return levelAVX2
	}
	return levelAVX512
}

// setLevel selects the kernels of a level.
func setLevel(l int) {
	level, class = l, "fma"
	switch l {
	case levelAVX512:
		kernel32 = &kernel[float32]{mr: 14, nr: 32, strip: micro14x32AVX512, packer: packer512{},
			tails: []tail[float32]{{4, micro4x32AVX512}, {8, micro8x32AVX512}}}
		kernel64 = &kernel[float64]{mr: 14, nr: 16, strip: micro14x16AVX512, packer: packer64{}}
	case levelAVX2:
		kernel32 = &kernel[float32]{mr: 6, nr: 16, strip: micro6x16AVX2, packer: packer32{},
			tails: []tail[float32]{{2, micro2x16AVX2}, {4, micro4x16AVX2}}}
		kernel64 = &kernel[float64]{mr: 6, nr: 8, strip: micro6x8AVX2, packer: packer64{}}
	default:
		kernel32, kernel64, class = generic32, generic64, "generic"
	}
}

func dot(a, b []float32) float32 {
	switch level {
	case levelAVX512:
		return dotAVX512(a, b)
	case levelAVX2:
		return dotAVX2(a, b)
	}
	return dotGeneric(a, b)
}

func sum(x []float32) float32 {
	switch level {
	case levelAVX512:
		return sumAVX512(x)
	case levelAVX2:
		return sumAVX2(x)
	}
	return sumGeneric(x)
}

func maximum(x []float32) float32 {
	switch level {
	case levelAVX512:
		return maxAVX512(x)
	case levelAVX2:
		return maxAVX2(x)
	}
	return maxGeneric(x)
}

func axpy(y []float32, alpha float32, x []float32) {
	switch level {
	case levelAVX512:
		axpyAVX512(y, alpha, x)
	case levelAVX2:
		axpyAVX2(y, alpha, x)
	default:
		axpyGeneric(y, alpha, x)
	}
}

func scale(x []float32, alpha float32) {
	switch level {
	case levelAVX512:
		scaleAVX512(x, alpha)
	case levelAVX2:
		scaleAVX2(x, alpha)
	default:
		scaleGeneric(x, alpha)
	}
}

func exp32(dst, src []float32) {
	switch level {
	case levelAVX512:
		expAVX512(dst, src)
	case levelAVX2:
		expAVX2(dst, src)
	default:
		expGeneric(dst, src)
	}
}

func expSum(dst, src []float32, shift float32) float32 {
	switch level {
	case levelAVX512:
		return expSumAVX512(dst, src, shift)
	case levelAVX2:
		return expSumAVX2(dst, src, shift)
	}
	return expSumGeneric(dst, src, shift)
}

func siluMul(y, gate, up []float32) {
	switch level {
	case levelAVX512:
		siluMulAVX512(y, gate, up)
	case levelAVX2:
		siluMulAVX2(y, gate, up)
	default:
		siluMulGeneric(y, gate, up)
	}
}

func siluMulBack(dgate, dup, dy, gate, up []float32) {
	switch level {
	case levelAVX512:
		siluMulBackAVX512(dgate, dup, dy, gate, up)
	case levelAVX2:
		siluMulBackAVX2(dgate, dup, dy, gate, up)
	default:
		siluMulBackGeneric(dgate, dup, dy, gate, up)
	}
}

func add(y, x []float32) {
	switch level {
	case levelAVX512:
		addAVX512(y, x)
	case levelAVX2:
		addAVX2(y, x)
	default:
		addGeneric(y, x)
	}
}

func adamW(p, g, m, v []float32, f *adamFactors) {
	switch level {
	case levelAVX512:
		adamWAVX512(p, g, m, v, f)
	case levelAVX2:
		adamWAVX2(p, g, m, v, f)
	default:
		f.step(p, g, m, v)
	}
}

func addWide(dst []float64, src []float32) {
	done := len(src) &^ 15
	switch level {
	case levelAVX512:
		addWideAVX512(dst, src)
	case levelAVX2:
		addWideAVX2(dst, src)
	default:
		done = 0
	}
	addWideGeneric(dst[done:], src[done:])
}

func addOuter16(y, x []float32, e *[16]float32) {
	switch level {
	case levelAVX512:
		addOuter16AVX512(y, x, e)
	case levelAVX2:
		addOuter16AVX2(y, x, e)
	default:
		addOuter16Generic(y, x, e)
	}
}

func roundingCost(w, h []float32, g *RoundingGrid) float32 {
	switch {
	case level == levelAVX512 && h != nil:
		return roundingCostWeightedAVX512(w, h, g)
	case level == levelAVX512:
		return roundingCostAVX512(w, h, g)
	case level == levelAVX2 && h != nil:
		return roundingCostWeightedAVX2(w, h, g)
	case level == levelAVX2:
		return roundingCostAVX2(w, h, g)
	}
	return roundingCostGeneric(w, h, g)
}

func roundLanes(steps, q, y *[16]float32, grids *RoundingLanes) {
	switch level {
	case levelAVX512:
		roundLanesAVX512(steps, q, y, grids)
	case levelAVX2:
		roundLanesAVX2(steps, q, y, grids)
	default:
		roundLanesGeneric(steps, q, y, grids)
	}
}

func walshLevel[T float](x []T, h int) {
	if level == levelGeneric {
		walshLevelGeneric(x, h)
		return
	}
	switch x := any(x).(type) {
	case []float32:
		walshLevel32AVX2(x, h)
	case []float64:
		walshLevel64AVX2(x, h)
	}
}

// peakLoop returns the widest peak loop and the values in its registers.
func peakLoop() (lanes int, loop func(n int)) {
	switch level {
	case levelAVX512:
		return 16, peakAVX512
	case levelAVX2:
		return 8, peakAVX2
	}
	return 1, peakGeneric
}
