package ggml

// Q6_K: 128 bytes with the lower four bits of the codes, 64 bytes with the upper two, 16 signed scales of 16 values each, and d as F16.
// Of each 128 values, byte l < 64 of the first holds those of code l and of code l+64, byte l < 32 of the second those of the codes
// l, l+32, l+64, l+96, lowest first. w = d*scale*(code - 32).

func dequantizeQ6K(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= 210 {
		out, b := (*[256]float32)(dst), (*[210]byte)(src)
		d := f16(b[208:])
		for h := range 2 {
			y, s := (*[128]float32)(out[128*h:]), (*[8]byte)(b[192+8*h:])
			low, high := (*[64]byte)(b[64*h:]), (*[32]byte)(b[128+32*h:])
			var scale [8]float32
			for j := range scale {
				scale[j] = float32(d * float32(int8(s[j])))
			}
			for l, u := range high {
				k := l / 16
				y[l] = float32(scale[k] * float32(int(low[l]&15|u<<4&48)-32))
				y[l+32] = float32(scale[k+2] * float32(int(low[l+32]&15|u<<2&48)-32))
				y[l+64] = float32(scale[k+4] * float32(int(low[l]>>4|u&48)-32))
				y[l+96] = float32(scale[k+6] * float32(int(low[l+32]>>4|u>>2&48)-32))
			}
		}
		dst, src = dst[256:], src[210:]
	}
}

// putQ6K stores the codes of a block.
func putQ6K(b *[210]byte, codes *[256]byte) {
	for h := range 2 {
		c := (*[128]byte)(codes[128*h:])
		low, high := (*[64]byte)(b[64*h:]), (*[32]byte)(b[128+32*h:])
		for l := range low {
			low[l] = c[l]&15 | c[l+64]<<4
		}
		for l := range high {
			high[l] = c[l]>>4 | c[l+32]>>4<<2 | c[l+64]>>4<<4 | c[l+96]>>4<<6
		}
	}
}

// quantizeQ6K quantizes blocks. importance is nil, or has a weight for each value of src. Without it, values count by their squares.
func quantizeQ6K(dst []byte, src, importance []float32) {
	for len(src) >= 256 && len(dst) >= 210 {
		x, b := (*[256]float32)(src), (*[210]byte)(dst)
		var weights [256]float32
		if importance != nil {
			copy(weights[:], importance)
			importance = importance[256:]
		} else {
			for i, v := range x {
				weights[i] = float32(v * v)
			}
		}
		quantizeBlockQ6K(b, x, &weights)
		src, dst = src[256:], dst[210:]
	}
}

// quantizeBlockQ6K takes the scale of largest magnitude, the first of several, for -128.
func quantizeBlockQ6K(b *[210]byte, x, weights *[256]float32) {
	var fits [16]scaleFit
	var extreme, most float32
	for j := range fits {
		fits[j] = searchScale(x[16*j:16*j+16], weights[16*j:16*j+16], 32)
		if a := abs(fits[j].scale); a > most {
			most, extreme = a, fits[j].scale
		}
	}
	if most < tiny {
		clear(b[:])
		return
	}
	inv := -128 / extreme
	d := putF16(b[208:], 1/inv)
	var codes [256]byte
	for j, f := range fits {
		s := min(nearest(float32(inv*f.scale)), 127)
		b[192+j] = byte(s)
		v, c, step := (*[16]float32)(x[16*j:]), (*[16]byte)(codes[16*j:]), float32(d*float32(int8(s)))
		for i := range c {
			switch {
			case step != 0:
				c[i] = byte(min(max(nearest(v[i]/step), -32), 31) + 32)
			case f.scale != 0 || f.inv != 0: // codes mean nothing and are those of the search, as in ggml
				c[i] = byte(signedCode(v[i], f.inv, 32) + 32)
			}
		}
	}
	putQ6K(b, &codes)
}
