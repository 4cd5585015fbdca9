package ggml

import "math"

// e2m1 holds twice the values of FP4, sign bit highest (OCP Microscaling Formats 1.0, section 5.3.3).
var e2m1 = [16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// MXFP4: a scale 2^(e-127), one byte, for 32 codes of FP4 in 16 bytes, code j beside code j+16.

func dequantizeMXFP4(dst []float32, src []byte) {
	for len(dst) >= 32 && len(src) >= 17 {
		out, b := (*[32]float32)(dst), (*[17]byte)(src)
		d := float32(math.Ldexp(1, int(b[0])-128)) // half the scale: see e2m1
		for j, q := range b[1:] {
			out[j], out[j+16] = e2m1[q&15]*d, e2m1[q>>4]*d
		}
		dst, src = dst[32:], src[17:]
	}
}

// NVFP4: four scales of FP8 (E4M3 without its sign), then for the 16 values of each 8 bytes, code j of FP4 beside code j+8.

func dequantizeNVFP4(dst []float32, src []byte) {
	for len(dst) >= 64 && len(src) >= 36 {
		out, b := (*[64]float32)(dst), (*[36]byte)(src)
		for s := range 4 {
			d, y := ue4m3(b[s])/2, (*[16]float32)(out[16*s:])
			for j, q := range (*[8]byte)(b[4+8*s:]) {
				y[j], y[j+8] = e2m1[q&15]*d, e2m1[q>>4]*d
			}
		}
		dst, src = dst[64:], src[36:]
	}
}

// ue4m3 is the value of a scale of NVFP4. The code of NaN is 0, as in ggml, and the sign bit is not looked at.
func ue4m3(u byte) float32 {
	exp, man := int(u>>3&15), int(u&7)
	switch {
	case u == 0x7f:
		return 0
	case exp == 0:
		return float32(math.Ldexp(float64(man), -9))
	}
	return float32(math.Ldexp(float64(8+man), exp-10))
}
