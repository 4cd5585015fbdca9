package ggml

import "modelpress/internal/num"

// simple is a type of blocks of 32 codes of four or five bits: a scale, and an offset or none.
type simple struct {
	bits, size int
	offset     bool
}

// simpleChunk is how many blocks are done at once, so that their values stay in the first-level cache.
const simpleChunk = 64

// simpleBlocks holds the grids and codes of some blocks.
type simpleBlocks struct {
	base, scale, inv [simpleChunk]float32
	codes            [32 * simpleChunk]byte
}

// quantize gives the extreme value of a block a code at the end of the range. Without offset that is the value of largest magnitude, which
// becomes -half; values are rounded to nearest, halves up, by adding a half and dropping the fraction.
func (q simple) quantize(dst []byte, src []float32) {
	var b simpleBlocks
	for len(src) > 0 {
		n := min(len(src)/32, simpleChunk)
		x := src[:32*n]
		half := float32(int(1) << (q.bits - 1))
		if q.offset {
			num.BlockBounds(b.base[:n], b.scale[:n], x)
			for i, least := range b.base[:n] {
				b.scale[i] = (b.scale[i] - least) / (2*half - 1)
			}
			half = 0
		} else {
			num.BlockExtremes(b.scale[:n], x)
			for i, v := range b.scale[:n] {
				b.scale[i] = v / -half
			}
		}
		for i, d := range b.scale[:n] {
			b.inv[i] = inverse(d)
		}
		num.BlockCodes(b.codes[:], x, b.base[:n], b.inv[:n], half+0.5, 1<<q.bits-1)
		q.put(dst, &b, n)
		src, dst = src[32*n:], dst[q.size*n:]
	}
}

// put stores n blocks.
func (q simple) put(dst []byte, b *simpleBlocks, n int) {
	for i := range n {
		out, codes := dst[q.size*i:][:q.size], (*[32]byte)(b.codes[32*i:])
		putF16(out, b.scale[i])
		out = out[2:]
		if q.offset {
			putF16(out, b.base[i])
			out = out[2:]
		}
		if q.bits == 4 {
			putFour((*[16]byte)(out), codes)
		} else {
			putFive((*[20]byte)(out), codes)
		}
	}
}

// inverse returns 1/d, or 0 where it is infinite. Scales as small as that are 0 as F16.
func inverse(d float32) float32 {
	if id := 1 / d; finite(id) {
		return id
	}
	return 0
}
