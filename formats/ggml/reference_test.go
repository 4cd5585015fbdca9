package ggml

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// bits reads n bits from bit i of b, lowest first.
func bits(b []byte, i, n int) int {
	v := 0
	for k := range n {
		v |= int(b[(i+k)/8]>>((i+k)%8)&1) << k
	}
	return v
}

// half reads binary16 by its definition.
func half(b []byte) float64 {
	h := binary.LittleEndian.Uint16(b)
	exp, man, sign := int(h>>10&31), float64(h&1023), 1-2*float64(h>>15)
	switch {
	case exp == 31 && man == 0:
		return math.Inf(int(sign))
	case exp == 31:
		return math.NaN()
	case exp == 0:
		return sign * math.Ldexp(man, -24)
	}
	return sign * math.Ldexp(1024+man, exp-25)
}

// fp4 is the value of a code of E2M1 by its definition.
func fp4(code int) float64 {
	sign, exp, man := 1-2*float64(code>>3), code>>1&3, float64(code&1)
	if exp == 0 {
		return sign * man / 2
	}
	return sign * math.Ldexp(2+man, exp-2)
}

// value returns value i of a block as a product and an offset, in float64 and bit by bit: the layouts as they are documented.
func value(typ Type, b []byte, i int) (product, offset float64) {
	at := i % 16 * 8 // of the nibble of value i < 32, after the head
	if i >= 16 {
		at += 4
	}
	switch typ {
	case Q4_0:
		return half(b) * float64(bits(b[2:], at, 4)-8), 0
	case Q4_1:
		return half(b) * float64(bits(b[4:], at, 4)), half(b[2:])
	case Q5_0:
		return half(b) * float64(bits(b[6:], at, 4)+16*bits(b[2:], i, 1)-16), 0
	case Q5_1:
		return half(b) * float64(bits(b[8:], at, 4)+16*bits(b[4:], i, 1)), half(b[2:])
	case Q8_0:
		return half(b) * float64(int8(b[2+i])), 0
	case MXFP4:
		return math.Ldexp(fp4(bits(b[1:], at, 4)), int(b[0])-127), 0
	case NVFP4:
		s, j := i/16, i%16
		scale := math.Ldexp(float64(8+b[s]&7), int(b[s]>>3&15)-10)
		switch {
		case b[s] == 0x7f:
			scale = 0
		case b[s]>>3&15 == 0:
			scale = math.Ldexp(float64(b[s]&7), -9)
		}
		return scale * fp4(bits(b[4+8*s:], j%8*8+j/8*4, 4)), 0
	}
	return valueK(typ, b, i)
}

func valueK(typ Type, b []byte, i int) (product, offset float64) {
	pair := i/128*32 + i%32 // the byte of two bits each, and the place in it
	two := 8*pair + i%128/32*2
	switch typ {
	case Q2_K:
		s := b[i/16]
		return half(b[80:]) * float64(s&15) * float64(bits(b[16:], two, 2)), -half(b[82:]) * float64(s>>4)
	case Q3_K:
		j := i / 16
		scale := bits(b[96:], 8*(j%8)+j/8*4, 4) + 16*bits(b[104:], 8*(j%4)+j/4*2, 2)
		code := bits(b[32:], two, 2) + 4*bits(b, 8*(i%32)+i/32, 1)
		return half(b[108:]) * float64(scale-32) * float64(code-4), 0
	case Q6_K:
		code := bits(b, 8*(i/128*64+i%64)+i%128/64*4, 4) + 16*bits(b[128:], two, 2)
		return half(b[208:]) * float64(int8(b[192+i/16])) * float64(code-32), 0
	}
	s, j := b[4:], i/32 // Q4_K and Q5_K
	scale, least := bits(s, 8*j, 6), bits(s, 8*j+32, 6)
	if j >= 4 {
		scale = bits(s, 8*j+32, 4) + bits(s, 8*(j-4)+6, 2)<<4
		least = bits(s, 8*j+36, 4) + bits(s, 8*j+6, 2)<<4
	}
	nibble := 8*(i/64*32+i%32) + i%64/32*4
	code := 0
	if typ == Q4_K {
		code = bits(b[16:], nibble, 4)
	} else {
		code = bits(b[48:], nibble, 4) + 16*bits(b[16:], 8*(i%32)+j, 1)
	}
	return half(b) * float64(scale) * float64(code), -half(b[2:]) * float64(least)
}

// Blocks of any bytes have the values of the layouts as they are documented, up to the rounding of float32.
func TestDequantizeAnyBytes(t *testing.T) {
	for typ := range dequantizers {
		rng := rand.New(rand.NewPCG(9, uint64(typ)))
		src := make([]byte, 40*typ.Size())
		for i := range src {
			src[i] = byte(rng.Uint32())
		}
		got := make([]float32, 40*typ.Block())
		if err := Dequantize(typ, got, src); err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			b := src[i/typ.Block()*typ.Size():]
			product, offset := value(typ, b[:typ.Size()], i%typ.Block())
			want := product + offset
			if math.Abs(want) >= 0x1p128 { // MXFP4 has twelve times 2^127
				want = math.Copysign(math.Inf(1), want)
			}
			if math.IsNaN(want) && math.IsNaN(float64(v)) || float64(v) == want {
				continue
			}
			if d := math.Abs(float64(v) - want); !(d <= 2e-7*(math.Abs(product)+math.Abs(offset))) {
				t.Fatalf("%s: value %d is %v, want %v", typ, i, v, want)
			}
		}
	}
}
