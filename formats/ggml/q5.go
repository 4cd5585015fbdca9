package ggml

import "encoding/binary"

// Q5_0: the scale d as F16, 4 bytes with the fifth bits of the 32 codes, the first one lowest, then the lower four bits as in Q4_0;
// w = d*(code - 16).

func dequantizeQ5_0(dst []float32, src []byte) {
	for len(dst) >= 32 && len(src) >= 22 {
		out, b := (*[32]float32)(dst), (*[22]byte)(src)
		d, high := f16(b[:]), binary.LittleEndian.Uint32(b[2:])
		for j, q := range b[6:] {
			out[j] = float32(int(uint32(q&15)|high>>j<<4&16)-16) * d
			out[j+16] = float32(int(uint32(q>>4)|high>>(j+16)<<4&16)-16) * d
		}
		dst, src = dst[32:], src[22:]
	}
}

// quantizeQ5_0 gives the value of largest magnitude, the first of several, the code 0.
func quantizeQ5_0(dst []byte, src []float32) {
	simple{bits: 5, size: 22}.quantize(dst, src)
}

// Q5_1: the scale d and the offset m as F16, then codes as in Q5_0; w = d*code + m.

func dequantizeQ5_1(dst []float32, src []byte) {
	for len(dst) >= 32 && len(src) >= 24 {
		out, b := (*[32]float32)(dst), (*[24]byte)(src)
		d, m, high := f16(b[:]), f16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		for j, q := range b[8:] {
			out[j] = float32(float32(uint32(q&15)|high>>j<<4&16)*d) + m
			out[j+16] = float32(float32(uint32(q>>4)|high>>(j+16)<<4&16)*d) + m
		}
		dst, src = dst[32:], src[24:]
	}
}

// quantizeQ5_1 spans the block from its least to its largest value.
func quantizeQ5_1(dst []byte, src []float32) {
	simple{bits: 5, size: 24, offset: true}.quantize(dst, src)
}

// putFive stores 32 codes of five bits: the fifth bits, then the lower four, code j beside code j+16. It works on eight codes at a time, a
// byte each.
func putFive(b *[20]byte, codes *[32]byte) {
	const ones, lower = 0x0101010101010101, 0x0f0f0f0f0f0f0f0f
	for j := range 4 {
		// The product has bit 8*i of the codes at 56+i, where nothing carries to.
		b[j] = byte(binary.LittleEndian.Uint64(codes[8*j:]) >> 4 & ones * 0x0102040810204080 >> 56)
	}
	for j := 0; j < 16; j += 8 {
		lo, hi := binary.LittleEndian.Uint64(codes[j:]), binary.LittleEndian.Uint64(codes[j+16:])
		binary.LittleEndian.PutUint64(b[4+j:], lo&lower|hi&lower<<4)
	}
}
