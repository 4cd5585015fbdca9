package ggml

import "math"

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
	for len(src) >= 32 && len(dst) >= 18 {
		x, b := (*[32]float32)(src), (*[18]byte)(dst)
		d := extreme(x) / -8
		id := inverse(d)
		putF16(b[:], d)
		for j := range 16 {
			b[j+2] = whole(float32(x[j]*id)+8.5, 15) | whole(float32(x[j+16]*id)+8.5, 15)<<4
		}
		src, dst = src[32:], dst[18:]
	}
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
	for len(src) >= 32 && len(dst) >= 20 {
		x, b := (*[32]float32)(src), (*[20]byte)(dst)
		least, largest := bounds(x)
		d := (largest - least) / 15
		id := inverse(d)
		putF16(b[:], d)
		putF16(b[2:], least)
		for j := range 16 {
			b[j+4] = whole(float32((x[j]-least)*id)+0.5, 15) | whole(float32((x[j+16]-least)*id)+0.5, 15)<<4
		}
		src, dst = src[32:], dst[20:]
	}
}

// extreme returns the value of largest magnitude, the first of several.
func extreme(x *[32]float32) float32 {
	var v float32
	most := uint32(0)
	for _, f := range x {
		if a := math.Float32bits(f) &^ (1 << 31); a > most {
			most, v = a, f
		}
	}
	return v
}

// bounds returns the least and the largest value.
func bounds(x *[32]float32) (least, largest float32) {
	least, largest = x[0], x[0]
	for _, v := range x[1:] {
		if v < least {
			least = v
		}
		if v > largest {
			largest = v
		}
	}
	return least, largest
}

// inverse returns 1/d, or 0 where it is infinite. Scales as small as that are 0 as F16.
func inverse(d float32) float32 {
	if id := 1 / d; id <= math.MaxFloat32 && id >= -math.MaxFloat32 {
		return id
	}
	return 0
}

// whole returns v without its fraction, and no more than most. v is not negative.
func whole(v float32, most int32) byte { return byte(min(int32(v), most)) }
