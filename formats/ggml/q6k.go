package ggml

import "modelpress/internal/num"

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

// scaleBlock finds grids and codes for a block of Q6_K.
type scaleBlock struct {
	search     num.ScaleSearch
	weights    [256]float32
	none, step [16]float32
	codes      [256]byte
}

// tries6 are what the search divides the value of largest magnitude by.
var tries6 = scaleTries(32)

// quantizeQ6K quantizes blocks. importance is nil, or has a weight for each column; src is whole rows of them. Without it, values count by
// their squares.
func quantizeQ6K(dst []byte, src, importance []float32) {
	var k scaleBlock
	for at := 0; len(src) >= 256 && len(dst) >= 210; at += 256 {
		x, b := (*[256]float32)(src), (*[210]byte)(dst)
		if importance == nil {
			for i, v := range x {
				k.weights[i] = float32(v * v)
			}
			k.search.Load(x[:], k.weights[:], 16)
		} else {
			at %= len(importance)
			k.search.Load(x[:], importance[at:at+256], 16)
		}
		k.quantize(b, x)
		src, dst = src[256:], dst[210:]
	}
}

// quantize takes the scale of largest magnitude, the first of several, for -128.
func (k *scaleBlock) quantize(b *[210]byte, x *[256]float32) {
	k.search.Run(16, 32, tries6, tiny)
	var extreme, most float32
	for _, s := range k.search.Scale {
		if a := abs(s); a > most {
			most, extreme = a, s
		}
	}
	if most < tiny {
		clear(b[:])
		return
	}
	inv := -128 / extreme
	d := putF16(b[208:], 1/inv)
	for j, scale := range k.search.Scale {
		s := min(nearest(float32(inv*scale)), 127)
		b[192+j] = byte(s)
		k.step[j] = float32(d * float32(int8(s)))
	}
	num.PartCodes(k.codes[:], x[:], k.none[:], k.step[:], -32, 31, 32)
	for j, step := range k.step {
		if step == 0 {
			k.unscaled(x, j)
		}
	}
	putQ6K(b, &k.codes)
}

// unscaled sets the codes of part j, whose scale is 0. They mean nothing and are those of the search, as in ggml.
func (k *scaleBlock) unscaled(x *[256]float32, j int) {
	inv, c := k.search.Inv[j], (*[16]byte)(k.codes[16*j:])
	for i, v := range (*[16]float32)(x[16*j:]) {
		c[i] = byte(signedCode(v, inv, 32) + 32)
		if inv == 0 {
			c[i] = 0
		}
	}
}
