package distill

import "math"

// Rounding rounds f32 to bfloat16 at random, up with the probability of the part cut off, so that the expectation is the value
// itself and small updates are not lost (Gupta et al., arXiv:1502.02551). What is exact in bfloat16 stays. The draw is a pure
// function of seed, step, tensor and the index of the value: neither threads nor a restart change it.
type Rounding struct{ draws stream }

// NewRounding returns the rounding of one tensor at one step.
func NewRounding(seed uint64, step int64, tensor int) Rounding {
	return Rounding{newStream(seed, uint64(step), uint64(tensor))}
}

// Store rounds src, whose first value has index from in the tensor, to dst. Finite values stay finite: past the largest
// bfloat16 they take that. NaN stays one.
func (r Rounding) Store(dst []uint16, src []float32, from int) {
	const lanes = 4 // values drawn from one number, 16 bits each
	draw, have := uint64(0), -1
	for i, v := range src {
		at := from + i
		if at/lanes != have {
			have = at / lanes
			draw = r.draws.at(uint64(have))
		}
		dst[i] = roundBF16(v, uint32(draw>>(16*(at%lanes)))&0xffff)
	}
}

// roundBF16 cuts v to bfloat16 after adding draw, which is below 2¹⁶, to the part that is cut off.
func roundBF16(v float32, draw uint32) uint16 {
	const exponent, largest = 0x7f80, 0x7f7f
	b := math.Float32bits(v)
	if b>>16&exponent == exponent {
		if v != v {
			return uint16(b>>16) | 0x40 // quiet, whatever the payload loses
		}
		return uint16(b >> 16)
	}
	h := uint16((b + draw) >> 16) // magnitudes grow: the sign is above them
	if h&exponent == exponent {
		return h&0x8000 | largest
	}
	return h
}
