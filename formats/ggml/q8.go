package ggml

import "math"

// Q8_0: the scale d as F16, then 32 signed codes; w = d*code.

func dequantizeQ8_0(dst []float32, src []byte) {
	for len(dst) >= 32 && len(src) >= 34 {
		out, b := (*[32]float32)(dst), (*[34]byte)(src)
		d := f16(b[:])
		for j := range out {
			out[j] = float32(int8(b[j+2])) * d
		}
		dst, src = dst[32:], src[34:]
	}
}

// quantizeQ8_0 rounds to steps of the largest magnitude over 127, halves away from zero. Codes are of the scale before it is rounded
// to F16.
func quantizeQ8_0(dst []byte, src []float32) {
	for len(src) >= 32 && len(dst) >= 34 {
		x, b := (*[32]float32)(src), (*[34]byte)(dst)
		most := uint32(0)
		for _, v := range x {
			most = max(most, math.Float32bits(v)&^(1<<31))
		}
		d := math.Float32frombits(most) / 127
		id := inverse(d)
		putF16(b[:], d)
		for j, v := range x {
			b[j+2] = byte(away(float32(v * id)))
		}
		src, dst = src[32:], dst[34:]
	}
}

// away rounds a number below 2^22 in magnitude to nearest, halves away from zero. Adding 1/2 itself would round up the largest number
// below it; with the number below, the sum of a half is a tie that goes to the even one above.
func away(v float32) int32 {
	return int32(v + math.Float32frombits(math.Float32bits(v)&(1<<31)|0x3effffff))
}
