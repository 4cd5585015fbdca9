package ggml

import "math"

// tiny is the magnitude below which a part of a block counts as zeros, ggml's GROUP_MAX_EPS.
const tiny = 1e-15

// affineTries are the settings of [num.AffineSearch] for codes from 0 to top: with them it is the search that llama.cpp calls make_qkx2_quants.
type affineTries struct {
	top   float32
	tries []float32
}

// newAffineTries has the tries top + first + i*step for i <= n, computed as ggml does.
func newAffineTries(top, first, step float32, n int) *affineTries {
	s := &affineTries{top: top, tries: make([]float32, n+1)}
	for i := range s.tries {
		s.tries[i] = float32(first+float32(step*float32(i))) + top
	}
	return s
}

// The settings that ggml searches Q4_K and Q5_K with, without importance and with it. Q4_1 and Q5_1 have the latter, too.
var (
	tries4, tries5                 = newAffineTries(15, -1, 0.1, 20), newAffineTries(31, -0.5, 0.1, 15)
	weightedTries4, weightedTries5 = newAffineTries(15, -0.9, 0.05, 36), newAffineTries(31, -0.9, 0.05, 36)
)

// code returns the code of a value on a grid that the search found.
func (s *affineTries) code(v, base, inv float32) byte {
	return byte(held(float32((v-base)*inv), s.top))
}

// scaleTries are the settings of [num.ScaleSearch] for codes from -top to top-1: with them it is the search that llama.cpp calls make_qx_quants.
func scaleTries(top float32) []float32 {
	var tries []float32
	for i := -9; i <= 9; i++ {
		if i != 0 {
			tries = append(tries, -(top + float32(0.1*float32(i))))
		}
	}
	return tries
}

// signedCode returns the code of a value on a grid that the search found, a whole number.
func signedCode(v, inv, top float32) float32 {
	return min(max(float32(float32(inv*v)+roundingMagic)-roundingMagic, -top), top-1)
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

func sqrt(v float32) float32 { return float32(math.Sqrt(float64(v))) }

// sumSquares adds in order.
func sumSquares(x []float32) (sum float32) {
	for _, v := range x {
		sum += float32(v * v)
	}
	return sum
}

func sum(x []float32) (sum float32) {
	for _, v := range x {
		sum += v
	}
	return sum
}
