package num

import (
	"fmt"
	"math"
	"testing"
)

var sizesBF16 = append([][3]int{{1, 32, 32}, {33, 100, 70}, {130, 70, 1100}, {3, 300, 513}, {20, 31, 1025}}, gemmSizes...)

// rounded returns x as bfloat16 and back.
func rounded(x []float32) []float32 {
	h, y := make([]uint16, len(x)), make([]float32, len(x))
	F32ToBF16(h, x)
	BF16ToF32(y, h)
	return y
}

// kernelsBF16 are the plain Go bodies and the kernel in use.
func kernelsBF16() []*kernelBF16 {
	tiles := &kernelBF16{class: "bf16amx", mr: 32, strip: stripTiles, pack: packPairRows}
	return []*kernelBF16{genericBF16, tiles, bestBF16()}
}

// Products must be those of the rounded operands, for weights of every type, at any stride and beta.
func TestGemmBF16AgainstFloat64(t *testing.T) {
	rng := newRand(11)
	for _, s := range sizesBF16 {
		m, n, k := s[0], s[1], s[2]
		for _, beta := range []float32{0, 1, -0.5} {
			const pad = 3
			x, w, y0 := randoms(rng, m*(k+pad)), randoms(rng, n*(k+pad)), randoms(rng, m*(n+pad))
			h := make([]uint16, len(w))
			F32ToBF16(h, w)
			rx, rw := rounded(x), rounded(w)
			want := product(y0, n+pad, m, n, k, func(i, l int) float32 { return rx[i*(k+pad)+l] },
				func(j, l int) float32 { return rw[j*(k+pad)+l] }, 1, float64(beta))
			half := make([]uint16, len(w)) // halves of what is a bfloat16 in this range are it
			F32ToF16(half, rw)
			for _, weights := range []Weights{F32Weights(w, k+pad), {U16: h, BF16: true, LD: k + pad}, {U16: half, LD: k + pad}} {
				packed := PackBF16(weights, n, k, workers(2))
				for _, kern := range kernelsBF16() {
					gx, okx := guarded(t, x)
					y, ok := guarded(t, y0)
					gemmPacked(kern, y, n+pad, gx, k+pad, packed, m, beta, nil)
					ok()
					okx()
					closeTo(t, fmt.Sprint(kern.class, s, beta), y, want, 5e-5)
				}
			}
		}
	}
}

// The kernel in use must give the bits of plain Go, also near the ends of the range of numbers.
func TestGemmBF16Bits(t *testing.T) {
	for i, s := range sizesBF16 {
		sameBF16(t, uint64(i), s[0], s[1], s[2])
	}
}

// sameBF16 compares the kernel in use with plain Go on normal values, some of them scaled to where sums become denormal or
// infinite.
func sameBF16(t *testing.T, seed uint64, m, n, k int) {
	t.Helper()
	rng := newRand(seed)
	x, w, y := randoms(rng, m*k), randoms(rng, n*k), randoms(rng, m*n)
	for _, v := range [][]float32{x, w, y} {
		for i := range v {
			switch rng.IntN(40) {
			case 0:
				v[i] *= 0x1p-70
			case 1:
				v[i] *= 0x1p-128
			case 2:
				v[i] = 0
			case 3:
				v[i] *= 0x1p60
			}
		}
	}
	if m*k > 0 && seed%3 == 0 {
		x[rng.IntN(m*k)] = float32(math.Inf(1))
	}
	packed := PackBF16(F32Weights(w, k), n, k, nil)
	oracle := genericBF16
	if bestBF16().class != oracle.class {
		oracle = kernelsBF16()[1]
	}
	got, want := append([]float32(nil), y...), append([]float32(nil), y...)
	gemmPacked(bestBF16(), got, n, x, k, packed, m, 1, workers(2))
	gemmPacked(oracle, want, n, x, k, packed, m, 1, nil)
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && !(want[i] != want[i] && got[i] != got[i]) {
			t.Fatalf("%d %d %d: [%d] = %v (%x), want %v (%x)", m, n, k, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// FuzzGemmBF16 compares the bits of the kernel in use with those of plain Go.
func FuzzGemmBF16(f *testing.F) {
	for i, s := range sizesBF16 {
		f.Add(uint64(i), uint16(s[0]), uint16(s[1]), uint16(s[2]))
	}
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k uint16) { sameBF16(t, seed, int(m%70), int(n%140), int(k%1200)) })
}

// A row's bits must not depend on its neighbours or on the number of threads.
func TestGemmBF16Determinism(t *testing.T) {
	rng := newRand(13)
	const m, n, k = 95, 300, 1300
	x, w := randoms(rng, m*k), randoms(rng, n*k)
	packed := PackBF16(F32Weights(w, k), n, k, nil)
	want := make([]float32, m*n)
	GemmPacked(want, n, x, k, packed, m, 0, nil)
	for threads := 1; threads <= 3; threads++ {
		y := make([]float32, m*n)
		GemmPacked(y, n, x, k, PackBF16(F32Weights(w, k), n, k, workers(threads)), m, 0, workers(threads))
		same(t, fmt.Sprint("threads ", threads), y, want)
	}
	for _, rows := range []int{1, 3, 16, 50} {
		y := make([]float32, m*n)
		for i := 0; i < m; i += rows {
			GemmPacked(y[i*n:], n, x[i*k:], k, packed, min(rows, m-i), 0, nil)
		}
		same(t, fmt.Sprint("rows ", rows), y, want)
	}
}

// Packing must keep every value, in rows and in parts of rows.
func TestPackedBF16Rows(t *testing.T) {
	rng := newRand(14)
	for _, s := range [][2]int{{1, 1}, {33, 7}, {70, 1100}, {5, 64}, {0, 3}, {3, 0}} {
		n, k := s[0], s[1]
		h := make([]uint16, n*k)
		for i := range h {
			h[i] = uint16(rng.Uint32())
		}
		p := PackBF16(Weights{U16: h, BF16: true, LD: k}, n, k, nil)
		row := make([]uint16, k)
		for i := range n {
			p.Row(row, i, 0)
			for j, v := range row {
				if v != h[i*k+j] {
					t.Fatalf("%v: [%d, %d] = %x, want %x", s, i, j, v, h[i*k+j])
				}
			}
			if p.Row(row[:k/3], i, k/2); k >= 3 && row[0] != h[i*k+k/2] {
				t.Fatalf("%v: part of row %d", s, i)
			}
		}
	}
}

// The steps of the dot product, worked out by hand: one rounding each, denormals as zeros.
func TestDotPair(t *testing.T) {
	one, tiny, small := uint32(0x3f80), uint32(0x0001), uint32(0x0080) // 1, a denormal, 2^-126
	for _, c := range []struct {
		s    float32
		a, b uint32
		want float32
	}{
		{1, one, one, 2}, {1, one << 16, one << 16, 2}, {0, one | one<<16, one | 0xbf80<<16, 0},
		{0, tiny, one, 0}, {0, small, one, 0x1p-126}, {0, small, 0x3f00, 0}, {0x1p-126, small | 0x8000, 0x3f00, 0},
		{0x1p24, one | one<<16, one | one<<16, 0x1p24}, // 2^24+1 ties to even, twice; the pair summed first would give 2^24+2
		{0x1p24, one | one<<16, 0xbf80 | one<<16, 0x1p24 - 1},
	} {
		if got := dotPair(c.s, c.a, c.b); got != c.want {
			t.Errorf("dotPair(%v, %x, %x) = %v, want %v", c.s, c.a, c.b, got, c.want)
		}
	}
}
