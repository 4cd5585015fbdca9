package num

import (
	"encoding/binary"
	"math"
)

// Blocks of 32 values that share a scale: the simple block types of ggml.

// blockValues is the length of a block.
const blockValues = 32

// MagnitudeBits returns the largest of the bits of |x[i]|, 0 for no values. It orders numbers by magnitude, infinities above them and NaNs above
// those: where it is below 0x7f800000, all values are finite.
func MagnitudeBits(x []float32) uint32 {
	most, done := magnitudeBits(x)
	return max(most, magnitudeBitsGeneric(x[done:]))
}

func magnitudeBitsGeneric(x []float32) (most uint32) {
	for _, v := range x {
		most = max(most, math.Float32bits(v)&^(1<<31))
	}
	return most
}

// QuantizeQ8 turns each 32 values of src into 34 bytes of dst: the scale d as IEEE half, then codes of a byte. d is the largest magnitude over 127; the
// codes are x*(1/d) rounded to nearest, halves away from zero, with d as it was before it was rounded; they are 0 where 1/d is infinite. It returns
// [MagnitudeBits] of src; where that is no finite number, what is stored has no meaning.
func QuantizeQ8(dst []byte, src []float32) (magnitude uint32) {
	blocks := len(src) / blockValues
	checkLen("QuantizeQ8", "dst", len(dst), 34*blocks)
	most, done := quantizeQ8(dst, src[:blocks*blockValues])
	return max(most, quantizeQ8Generic(dst[done/blockValues*34:], src[done:blocks*blockValues]))
}

func quantizeQ8Generic(dst []byte, src []float32) (magnitude uint32) {
	for len(src) >= blockValues && len(dst) >= 34 {
		x, b := (*[blockValues]float32)(src), (*[34]byte)(dst)
		most := magnitudeBitsGeneric(x[:])
		magnitude = max(magnitude, most)
		d := math.Float32frombits(most) / 127
		inv := finiteInverse(d)
		binary.LittleEndian.PutUint16(b[:], f32ToF16(d))
		for i, v := range x {
			b[i+2] = byte(roundAway(float32(v * inv)))
		}
		src, dst = src[blockValues:], dst[34:]
	}
	return magnitude
}

// finiteInverse returns 1/d, or 0 where that is infinite.
func finiteInverse(d float32) float32 {
	if inv := 1 / d; inv <= math.MaxFloat32 && inv >= -math.MaxFloat32 {
		return inv
	}
	return 0
}

// belowHalf is the largest number below 1/2.
const belowHalf = 0x3effffff

// roundAway rounds a number below 2^22 in magnitude to nearest, halves away from zero. Adding 1/2 itself would round up the largest number below it;
// with the number below, the sum of a half is a tie that goes to the even one above.
func roundAway(v float32) int32 {
	return int32(v + math.Float32frombits(math.Float32bits(v)&(1<<31)|belowHalf))
}

// BlockExtremes sets dst[b] to the value of largest magnitude of block b of x, the first of several; 0 where all are zeros.
func BlockExtremes(dst, x []float32) {
	blocks := len(x) / blockValues
	checkLen("BlockExtremes", "dst", len(dst), blocks)
	done := blockExtremes(dst, x, blocks)
	blockExtremesGeneric(dst[done:blocks], x[done*blockValues:])
}

func blockExtremesGeneric(dst, x []float32) {
	for b := range dst {
		most, extreme := uint32(0), float32(0)
		for _, v := range (*[blockValues]float32)(x[b*blockValues:]) {
			if a := math.Float32bits(v) &^ (1 << 31); a > most {
				most, extreme = a, v
			}
		}
		dst[b] = extreme
	}
}

// BlockBounds sets least[b] and largest[b] to the extremes of block b of x; among zeros of both signs, to the first.
func BlockBounds(least, largest, x []float32) {
	blocks := len(x) / blockValues
	checkLen("BlockBounds", "least", len(least), blocks)
	checkLen("BlockBounds", "largest", len(largest), blocks)
	done := blockBounds(least, largest, x, blocks)
	for b := range done {
		if least[b] == 0 || largest[b] == 0 { // vectors do not keep the order
			blockBoundsGeneric(least[b:b+1], largest[b:b+1], x[b*blockValues:])
		}
	}
	blockBoundsGeneric(least[done:blocks], largest[done:], x[done*blockValues:])
}

func blockBoundsGeneric(least, largest, x []float32) {
	for b := range least {
		block := (*[blockValues]float32)(x[b*blockValues:])
		lo, hi := block[0], block[0]
		for _, v := range block[1:] {
			if v < lo {
				lo = v
			}
			if v > hi {
				hi = v
			}
		}
		least[b], largest[b] = lo, hi
	}
}

// BlockCodes sets a byte for each value of x: (x-base[b])*inv[b] + add without its fraction, and no more than top, in block b. The numbers must lie in
// [0, 256).
func BlockCodes(codes []byte, x, base, inv []float32, add float32, top int32) {
	blocks := len(x) / blockValues
	checkLen("BlockCodes", "codes", len(codes), blocks*blockValues)
	checkLen("BlockCodes", "base", len(base), blocks)
	checkLen("BlockCodes", "inv", len(inv), blocks)
	done := blockCodes(codes, x, base, inv, blocks, add, top)
	for b := done; b < blocks; b++ {
		c := (*[blockValues]byte)(codes[b*blockValues:])
		for i, v := range (*[blockValues]float32)(x[b*blockValues:]) {
			c[i] = byte(min(int32(float32((v-base[b])*inv[b])+add), top))
		}
	}
}

// partValues is the length of a part of a block.
const partValues = 16

// PartCodes sets a byte for each value of x: (x+add[p])/step[p] of part p of 16 values, rounded to nearest, ties to even, held in [lo, hi], plus bias.
// Quotients must lie below 2^22 in magnitude; others, and those of steps 0, give some code.
func PartCodes(codes []byte, x, add, step []float32, lo, hi, bias int32) {
	parts := len(x) / partValues
	checkLen("PartCodes", "codes", len(codes), parts*partValues)
	checkLen("PartCodes", "add", len(add), parts)
	checkLen("PartCodes", "step", len(step), parts)
	done := partCodes(codes, x, add, step, parts, lo, hi, bias)
	for p := done; p < parts; p++ {
		c := (*[partValues]byte)(codes[p*partValues:])
		for i, v := range (*[partValues]float32)(x[p*partValues:]) {
			c[i] = byte(min(max(nearestInt((v+add[p])/step[p]), lo), hi) + bias)
		}
	}
}

// nearestInt rounds a number below 2^22 in magnitude to nearest, ties to even.
func nearestInt(v float32) int32 {
	return int32(math.Float32bits(v+roundingMagic)&0x7fffff) - 0x400000
}

// RootWeights sets w[i] = importance[i]*sqrt(sigma2+x[i]²) for i < len(w).
func RootWeights(w, x, importance []float32, sigma2 float32) {
	checkLen("RootWeights", "x", len(x), len(w))
	checkLen("RootWeights", "importance", len(importance), len(w))
	for i := rootWeights(w, x, importance, sigma2); i < len(w); i++ {
		w[i] = float32(importance[i] * float32(math.Sqrt(float64(sigma2+float32(x[i]*x[i])))))
	}
}
