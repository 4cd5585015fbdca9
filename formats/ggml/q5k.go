package ggml

// Q5_K: d, dmin and [kScales] as in Q4_K, then 32 bytes with the fifth bits of the codes, bit j of byte l for code 32*j+l, then the lower four
// bits as in Q4_K.

func dequantizeQ5K(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= 176 {
		out, b := (*[256]float32)(dst), (*[176]byte)(src)
		d, dmin, s := f16(b[:]), f16(b[2:]), getKScales((*[12]byte)(b[4:]))
		high := (*[32]byte)(b[16:])
		for j := range 4 {
			d0, m0 := float32(d*float32(s.scale[2*j])), float32(dmin*float32(s.min[2*j]))
			d1, m1 := float32(d*float32(s.scale[2*j+1])), float32(dmin*float32(s.min[2*j+1]))
			y := (*[64]float32)(out[64*j:])
			for l, q := range (*[32]byte)(b[48+32*j:]) {
				h := high[l] >> (2 * j)
				y[l] = float32(d0*float32(q&15|h<<4&16)) - m0
				y[l+32] = float32(d1*float32(q>>4|h<<3&16)) - m1
			}
		}
		dst, src = dst[256:], src[176:]
	}
}

// putQ5K stores the codes of a block.
func putQ5K(b *[176]byte, codes *[256]byte) {
	high := (*[32]byte)(b[16:])
	clear(high[:])
	for j := range 4 {
		c, q := (*[64]byte)(codes[64*j:]), (*[32]byte)(b[48+32*j:])
		for l := range q {
			q[l] = c[l]&15 | c[l+32]<<4
			high[l] |= (c[l]>>4 | c[l+32]>>4<<1) << (2 * j)
		}
	}
}
