package ggml

// Q4_K: d and dmin as F16, the twelve bytes of [kScales], 128 bytes of codes: of each 64 values, byte l holds code l in its low and code
// l+32 in its high half. w = d*scale*code - dmin*min, with scale and min of the 32 values.

func dequantizeQ4K(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= 144 {
		out, b := (*[256]float32)(dst), (*[144]byte)(src)
		d, dmin, s := f16(b[:]), f16(b[2:]), getKScales((*[12]byte)(b[4:]))
		for j := range 4 {
			d0, m0 := float32(d*float32(s.scale[2*j])), float32(dmin*float32(s.min[2*j]))
			d1, m1 := float32(d*float32(s.scale[2*j+1])), float32(dmin*float32(s.min[2*j+1]))
			y := (*[64]float32)(out[64*j:])
			for l, q := range (*[32]byte)(b[16+32*j:]) {
				y[l] = float32(d0*float32(q&15)) - m0
				y[l+32] = float32(d1*float32(q>>4)) - m1
			}
		}
		dst, src = dst[256:], src[144:]
	}
}

// putQ4K stores the codes of a block.
func putQ4K(b *[144]byte, codes *[256]byte) {
	for j := range 4 {
		c, q := (*[64]byte)(codes[64*j:]), (*[32]byte)(b[16+32*j:])
		for l := range q {
			q[l] = c[l] | c[l+32]<<4
		}
	}
}
