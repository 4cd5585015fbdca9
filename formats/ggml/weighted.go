package ggml

import "modelpress/internal/num"

// weightedSimple finds the grids of simple blocks with importance, 16 blocks at a time: the searches of the K types, with weights from
// the mean square of the row.
type weightedSimple struct {
	simple
	blocks  simpleBlocks
	weights [32 * lanes]float32
	scale   num.ScaleSearch
	affine  num.AffineSearch
}

// lanes is how many parts of blocks a search takes at once.
const lanes = 16

func weightedQ4_0(dst []byte, src, importance []float32) {
	simple{4, 18, false}.weighted(dst, src, importance)
}
func weightedQ4_1(dst []byte, src, importance []float32) {
	simple{4, 20, true}.weighted(dst, src, importance)
}
func weightedQ5_0(dst []byte, src, importance []float32) {
	simple{5, 22, false}.weighted(dst, src, importance)
}
func weightedQ5_1(dst []byte, src, importance []float32) {
	simple{5, 24, true}.weighted(dst, src, importance)
}

// weighted quantizes whole rows.
func (q simple) weighted(dst []byte, src, importance []float32) {
	s := weightedSimple{simple: q}
	row := len(importance)
	for ; len(src) > 0; src = src[row:] {
		sigma2 := sumSquares(src[:row]) / float32(row)
		for at := 0; at < row; at += 32 * lanes {
			n := min(lanes, (row-at)/32)
			x, w := src[at:at+32*n], s.weights[:32*n]
			num.RootWeights(w, x, importance[at:], sigma2)
			if q.offset {
				s.searchAffine(x, w)
			} else {
				s.searchScale(x, w)
			}
			q.put(dst, &s.blocks, n)
			dst = dst[q.size*n:]
		}
	}
}

var tries4_0, tries5_0 = scaleTries(8), scaleTries(16)

func (s *weightedSimple) searchScale(x, w []float32) {
	tries, half := tries4_0, float32(8)
	if s.bits == 5 {
		tries, half = tries5_0, 16
	}
	s.scale.Load(x, w, 32)
	s.scale.Run(32, half, tries, tiny)
	copy(s.blocks.scale[:], s.scale.Scale[:])
	for i, v := range x {
		s.blocks.codes[i] = byte(signedCode(v, s.scale.Inv[i/32], half) + half)
	}
	for b := range len(x) / 32 {
		if s.scale.Inv[b] == 0 {
			clear(s.blocks.codes[32*b : 32*b+32])
		}
	}
}

func (s *weightedSimple) searchAffine(x, w []float32) {
	tries := weightedTries4
	if s.bits == 5 {
		tries = weightedTries5
	}
	s.affine.Load(x, w, 32)
	s.affine.Run(32, tries.top, tries.tries)
	copy(s.blocks.scale[:], s.affine.Scale[:])
	copy(s.blocks.base[:], s.affine.Min[:])
	for i, v := range x {
		s.blocks.codes[i] = tries.code(v, s.affine.Base[i/32], s.affine.Inv[i/32])
	}
}
