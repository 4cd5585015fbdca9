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
	for len(src) >= 32 && len(dst) >= 22 {
		x, b := (*[32]float32)(src), (*[22]byte)(dst)
		d := extreme(x) / -16
		id := inverse(d)
		putF16(b[:], d)
		var codes [32]byte
		for j, v := range x {
			codes[j] = whole(float32(v*id)+16.5, 31)
		}
		putFive(b[2:], &codes)
		src, dst = src[32:], dst[22:]
	}
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
	for len(src) >= 32 && len(dst) >= 24 {
		x, b := (*[32]float32)(src), (*[24]byte)(dst)
		least, largest := bounds(x)
		d := (largest - least) / 31
		id := inverse(d)
		putF16(b[:], d)
		putF16(b[2:], least)
		var codes [32]byte
		for j, v := range x {
			codes[j] = whole(float32((v-least)*id)+0.5, 31)
		}
		putFive(b[4:], &codes)
		src, dst = src[32:], dst[24:]
	}
}

// putFive stores 32 codes of five bits: the fifth bits, then the lower four.
func putFive(b []byte, codes *[32]byte) {
	high := uint32(0)
	for j, q := range codes {
		high |= uint32(q>>4) << j
	}
	binary.LittleEndian.PutUint32(b, high)
	putFour((*[16]byte)(b[4:]), codes)
}

// putFour stores the lower four bits of 32 codes, code j beside code j+16.
func putFour(b *[16]byte, codes *[32]byte) {
	for j := range b {
		b[j] = codes[j]&15 | codes[j+16]<<4
	}
}
