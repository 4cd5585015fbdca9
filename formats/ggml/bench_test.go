package ggml

import (
	"math/rand/v2"
	"testing"
)

// Bytes are those of the values as float32.
func BenchmarkQuantize(b *testing.B) {
	const row, rows = 4096, 16
	x := randoms(rand.New(rand.NewPCG(1, 1)), rows*row)
	w := make([]float32, row)
	for i := range w {
		w[i] = 1 + float32(i%7)
	}
	for _, typ := range written {
		for _, importance := range [][]float32{nil, w} {
			name := typ.String()
			if importance != nil {
				if quantizers[typ].weighted == nil {
					continue
				}
				name += "/importance"
			}
			b.Run(name, func(b *testing.B) {
				n, _ := typ.RowBytes(rows * row)
				dst := make([]byte, n)
				b.SetBytes(4 * rows * row)
				for b.Loop() {
					if err := Quantize(typ, dst, x, row, importance); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkDequantize(b *testing.B) {
	const n = 64 << 10
	rng := rand.New(rand.NewPCG(1, 1))
	dst := make([]float32, n)
	for typ := range types {
		if _, ok := dequantizers[typ]; !ok && typ != F16 && typ != BF16 {
			continue
		}
		size, _ := typ.RowBytes(n)
		src := make([]byte, size)
		for i := range src {
			src[i] = byte(rng.Uint32()) & 0x3f
		}
		b.Run(typ.String(), func(b *testing.B) {
			b.SetBytes(4 * n)
			for b.Loop() {
				if err := Dequantize(typ, dst, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
