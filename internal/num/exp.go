package num

import "math"

// Exp32 computes dst[i] = e^src[i] over i < len(src), within 2 units in the last place: -Inf and anything below about
// -103.97 give 0, anything above about 88.72 gives +Inf, NaN gives NaN. dst may be src.
func Exp32(dst, src []float32) {
	checkLen("Exp32", "dst", len(dst), len(src))
	exp32(dst[:len(src)], src)
}

func expGeneric(dst, src []float32) {
	for i, v := range src {
		dst[i] = float32(math.Exp(float64(v)))
	}
}

// expSumGeneric computes dst[i] = e^(src[i]-shift) and returns the sum of dst in the order of Sum.
func expSumGeneric(dst, src []float32, shift float32) float32 {
	for i, v := range src {
		dst[i] = v - shift
	}
	expGeneric(dst[:len(src)], dst[:len(src)])
	return sumGeneric(dst[:len(src)])
}

// Softmax computes dst = e^src / Σ e^src over one row and returns the log of that sum, log-sum-exp. A row whose values
// are all -Inf, or an empty one, gives zeros and -Inf. dst may be src.
func Softmax(dst, src []float32) float32 {
	checkLen("Softmax", "dst", len(dst), len(src))
	dst = dst[:len(src)]
	top := Max(src)
	if math.IsInf(float64(top), -1) {
		clear(dst)
		return top
	}
	total := expSum(dst, src, top)
	Scale(dst, 1/total)
	return top + float32(math.Log(float64(total)))
}

// SoftmaxRows applies Softmax to each of rows rows of cols values, in place.
func SoftmaxRows(x []float32, rows, cols int, par Par) {
	checkDims("SoftmaxRows", rows, cols)
	checkLen("SoftmaxRows", "x", len(x), rows*cols)
	byRows(par, rows, cols, func(i int) { Softmax(x[i*cols:][:cols], x[i*cols:][:cols]) })
}

// LogSumExp returns log Σ e^x[i], computed in float64 past the largest value: -Inf where x is empty.
func LogSumExp(x []float32) float64 {
	top := float64(Max(x))
	if math.IsInf(top, 0) {
		return top
	}
	var s float64
	for _, v := range x {
		s += math.Exp(float64(v) - top)
	}
	return top + math.Log(s)
}

// byRows runs body for each row, in groups of rows that are worth a task.
func byRows(par Par, rows, cols int, body func(i int)) {
	group := max(1, 1<<14/max(1, cols))
	each(par, ceilDiv(rows, group), func(g int) {
		for i := g * group; i < min(rows, (g+1)*group); i++ {
			body(i)
		}
	})
}
