package ggml

import "encoding/binary"

// Q4_0: the scale d as F16, then 16 bytes of which byte j holds code j in its low and code j+16 in its high half; w = d*(code - 8).

func dequantizeQ4_0(dst []float32, src []byte) {
	for len(dst) >= 32 && len(src) >= 18 {
		out, b := (*[32]float32)(dst), (*[18]byte)(src)
		d := f16(b[:])
		for j, q := range b[2:] {
			out[j] = float32(int(q&15)-8) * d
			out[j+16] = float32(int(q>>4)-8) * d
		}
		dst, src = dst[32:], src[18:]
	}
}

// quantizeQ4_0 gives the value of largest magnitude, the first of several, the code 0.
func quantizeQ4_0(dst []byte, src []float32) {
	simple{bits: 4, size: 18}.quantize(dst, src)
}

// Q4_1: the scale d and the offset m as F16, then codes as in Q4_0; w = d*code + m.

func dequantizeQ4_1(dst []float32, src []byte) {
	for len(dst) >= 32 && len(src) >= 20 {
		out, b := (*[32]float32)(dst), (*[20]byte)(src)
		d, m := f16(b[:]), f16(b[2:])
		for j, q := range b[4:] {
			out[j] = float32(float32(q&15)*d) + m
			out[j+16] = float32(float32(q>>4)*d) + m
		}
		dst, src = dst[32:], src[20:]
	}
}

// quantizeQ4_1 spans the block from its least to its largest value.
func quantizeQ4_1(dst []byte, src []float32) {
	simple{bits: 4, size: 20, offset: true}.quantize(dst, src)
}

// putFour stores 32 codes of four bits, code j beside code j+16.
func putFour(b *[16]byte, codes *[32]byte) {
	for j := 0; j < 16; j += 8 {
		binary.LittleEndian.PutUint64(b[j:], binary.LittleEndian.Uint64(codes[j:])|binary.LittleEndian.Uint64(codes[j+16:])<<4)
	}
}
