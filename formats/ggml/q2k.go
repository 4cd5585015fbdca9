package ggml

// Q2_K: 16 bytes with a scale and an offset of four bits each for 16 values, 64 bytes of codes, d and dmin as F16. Of each 128 values, byte
// l < 32 holds the codes l, l+32, l+64, l+96, lowest first. w = d*scale*code - dmin*min.

func dequantizeQ2K(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= 84 {
		out, b := (*[256]float32)(dst), (*[84]byte)(src)
		d, dmin := f16(b[80:]), f16(b[82:])
		for j := range 16 { // 16 values each
			s := b[j]
			dl, ml := float32(d*float32(s&15)), float32(dmin*float32(s>>4))
			shift := j / 2 % 4 * 2
			codes := (*[16]byte)(b[16+j/8*32+j%2*16:])
			for l, y := 0, (*[16]float32)(out[16*j:]); l < 16; l++ {
				y[l] = float32(dl*float32(codes[l]>>shift&3)) - ml
			}
		}
		dst, src = dst[256:], src[84:]
	}
}

// Q3_K: 32 bytes with the third bits of the codes, bit j of byte l for code 32*j+l, 64 bytes with the lower two as in Q2_K, 12 bytes with
// 16 scales of six bits, d as F16. Byte j < 8 of the scales has the lower four bits of scales j and j+8, byte 8+j the upper two of scales
// j, j+4, j+8, j+12, lowest first. w = d*(scale - 32)*(code - 4).

func dequantizeQ3K(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= 110 {
		out, b := (*[256]float32)(dst), (*[110]byte)(src)
		d, scales := f16(b[108:]), (*[12]byte)(b[96:])
		for j := range 16 { // 16 values each
			s := scales[j%8]>>(j/8*4)&15 | scales[8+j%4]>>(j/4*2)&3<<4
			dl := float32(d * float32(int(s)-32))
			shift := j / 2 % 4 * 2
			codes, high := (*[16]byte)(b[32+j/8*32+j%2*16:]), (*[16]byte)(b[j%2*16:])
			for l, y := 0, (*[16]float32)(out[16*j:]); l < 16; l++ {
				y[l] = float32(dl * float32(int(codes[l]>>shift&3|high[l]>>(j/2)&1<<2)-4))
			}
		}
		dst, src = dst[256:], src[110:]
	}
}
