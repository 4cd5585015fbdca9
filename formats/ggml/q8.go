package ggml

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
