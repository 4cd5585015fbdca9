package num

import "math"

// HadamardSizeOK reports whether there is a Hadamard transform of n values: n = K*2^s with K = 1 or the order of a
// matrix of Paley's constructions (J. Math. Phys. 12, 1933) up to maxPaley. That covers 12, 20, 28, 36, 40, 44, 48, 52,
// 60, 108, 140, 148 and more times powers of two, 14336 = 28*512, 11008 = 344*32 and 18944 = 148*128 among them.
func HadamardSizeOK(n int) bool {
	_, ok := hadamardBase(n)
	return ok
}

// Hadamard multiplies the row vector x by the normalised Hadamard matrix of its size, in place: x = x·(P ⊗ S)/sqrt(n),
// where P is the Paley matrix of order K and S Sylvester's matrix of order 2^s, n = K*2^s. With K = 1 the matrix is
// symmetric and the transform its own inverse. It panics on sizes that HadamardSizeOK refuses.
func Hadamard(x []float64) { hadamard(x, false) }

// HadamardT multiplies by the transpose of the matrix of Hadamard, which is its inverse.
func HadamardT(x []float64) { hadamard(x, true) }

// Hadamard32 is Hadamard in float32.
func Hadamard32(x []float32) { hadamard(x, false) }

// Hadamard32T is HadamardT in float32.
func Hadamard32T(x []float32) { hadamard(x, true) }

func hadamard[T float](x []T, transpose bool) {
	n := len(x)
	base, ok := hadamardBase(n)
	if !ok {
		panic("num: Hadamard: no matrix of this size")
	}
	norm := T(1 / math.Sqrt(float64(n)))
	if base > 1 {
		mixPaley(x, paley[T](base), base, transpose)
	}
	for i := 0; i < n; i += n / base {
		walsh(x[i : i+n/base])
	}
	for i := range x {
		x[i] *= norm
	}
}

// walsh is the fast Walsh-Hadamard transform of a power of two, not normalised:
//
//	x = x·S, S[i,j] = (-1)^popcount(i&j)
func walsh[T float](x []T) {
	h := 1
	if len(x) >= 8 {
		for i := 0; i < len(x); i += 8 {
			walsh8((*[8]T)(x[i:]))
		}
		h = 8
	}
	for ; h < len(x); h *= 2 {
		if h < 8 {
			walshLevelGeneric(x, h)
		} else {
			walshLevel(x, h)
		}
	}
}

// walshLevelGeneric combines neighbours at distance h: x[i+j], x[i+h+j] = x[i+j]+x[i+h+j], x[i+j]-x[i+h+j] for j < h and
// i in steps of 2h.
func walshLevelGeneric[T float](x []T, h int) {
	for i := 0; i < len(x); i += 2 * h {
		lo, hi := x[i:i+h], x[i+h:i+2*h]
		for j, a := range lo {
			b := hi[j]
			lo[j], hi[j] = a+b, a-b
		}
	}
}

// walsh8 is the transform of eight values.
func walsh8[T float](x *[8]T) {
	a0, a1, a2, a3 := x[0]+x[1], x[0]-x[1], x[2]+x[3], x[2]-x[3]
	a4, a5, a6, a7 := x[4]+x[5], x[4]-x[5], x[6]+x[7], x[6]-x[7]
	b0, b1, b2, b3 := a0+a2, a1+a3, a0-a2, a1-a3
	b4, b5, b6, b7 := a4+a6, a5+a7, a4-a6, a5-a7
	x[0], x[1], x[2], x[3] = b0+b4, b1+b5, b2+b6, b3+b7
	x[4], x[5], x[6], x[7] = b0-b4, b1-b5, b2-b6, b3-b7
}

// mixPaley multiplies by p ⊗ I: the k segments of x are combined, segment j of the result being Σ_i p[i,j]*segment i
// (p[j,i] where transpose is set), i ascending.
func mixPaley[T float](x []T, p []T, k int, transpose bool) {
	seg := len(x) / k
	old := append([]T(nil), x...)
	gemm(bestKernel[T](), x, seg, operand[T]{v: p, ld: k, trans: !transpose}, operand[T]{v: old, ld: seg, trans: true}, k, seg, k, 1, 0, nil)
}
