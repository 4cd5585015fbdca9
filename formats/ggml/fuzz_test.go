package ggml

import (
	"math"
	"testing"
)

// Any bytes dequantize, or are refused for their length alone; the grid of a block, where it has one, has the same values.
func FuzzDequantize(f *testing.F) {
	for typ := range types {
		f.Add(uint32(typ), make([]byte, 2*typ.Size()))
	}
	f.Add(uint32(Q4_1), []byte{0, 0x3c, 0, 0xc0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Fuzz(func(t *testing.T, typ uint32, src []byte) {
		k := Type(typ % 50)
		n := 1
		if k.Known() {
			n = len(src) / k.Size() * k.Block()
		}
		dst := make([]float32, n)
		err := Dequantize(k, dst, src)
		if _, plain := dequantizers[k]; plain && (err == nil) != (len(src)%k.Size() == 0) {
			t.Fatalf("%s, %d bytes: %v", k, len(src), err)
		}
		if err != nil || !Grid(k) || n == 0 {
			return
		}
		m, err := DecodeAffine(k, src, 1, n)
		if err != nil {
			return
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		back := make([]float32, n)
		m.Dequantize(back, 0)
		for i, v := range dst {
			if back[i] != v {
				t.Fatalf("%s: value %d is %v, its code and scale give %v", k, i, v, back[i])
			}
		}
		if _, err := EncodeAffine(k, m); err != nil && k != Q4_1 && k != Q5_1 {
			t.Fatalf("%s: what was decoded does not encode: %v", k, err)
		}
	})
}

// Any values are quantized or refused; what is written is finite, and a block alone has the bytes that it has among others.
func FuzzQuantize(f *testing.F) {
	seed := bytesOf([]float32{1, -2, 0.5, 1e-30, 3e38, -3e38, 1e-44, 65504})
	for _, typ := range written {
		f.Add(uint32(typ), seed, seed[:8])
	}
	f.Add(uint32(Q4_K), seed[:16], seed[4:8])
	f.Fuzz(func(t *testing.T, typ uint32, a, b []byte) {
		k := Type(typ % 50)
		const row = 512
		if !k.Quantizes() || len(a) < 4 || len(b) < 4 {
			return
		}
		x, importance := repeat(t, a, 2*row), repeat(t, b, row)
		n, err := k.RowBytes(2 * row)
		if err != nil {
			t.Fatal(err)
		}
		got, y := make([]byte, n), make([]float32, 2*row)
		for _, w := range [][]float32{importance, nil} {
			if err := Quantize(k, got, x, row, w); err != nil {
				continue
			}
			if err := Dequantize(k, y, got); err != nil {
				t.Fatal(err)
			}
			for i, v := range y {
				if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
					t.Fatalf("%s: value %d, %v, becomes %v", k, i, x[i], v)
				}
			}
			if w != nil {
				continue
			}
			block := make([]byte, k.Size())
			for i := range 2 * row / k.Block() {
				if err := Quantize(k, block, x[i*k.Block():(i+1)*k.Block()], k.Block(), nil); err != nil {
					t.Fatal(err)
				}
				if string(block) != string(got[i*k.Size():(i+1)*k.Size()]) {
					t.Fatalf("%s: block %d alone has other bytes", k, i)
				}
			}
		}
	})
}

// repeat fills n values with those of b, over and over, each time half as large and of the other sign.
func repeat(t *testing.T, b []byte, n int) []float32 {
	from := make([]float32, len(b)/4)
	if err := Dequantize(F32, from, b[:4*len(from)]); err != nil {
		t.Fatal(err)
	}
	x, scale := make([]float32, n), float32(1)
	for i := range x {
		if i > 0 && i%len(from) == 0 {
			scale *= -0.5
			if scale*scale < 1e-20 {
				scale = 1
			}
		}
		x[i] = from[i%len(from)] * scale
	}
	return x
}
