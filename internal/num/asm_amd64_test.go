//go:build amd64 && !noasm

package num

import (
	"fmt"
	"math"
	"testing"
)

// atLevel runs f with the kernels of level l.
func atLevel(l int, f func()) {
	defer setLevel(level)
	setLevel(l)
	f()
}

// Every test must pass with every set of kernels that this processor has.
func TestLevels(t *testing.T) {
	for l := levelGeneric; l < detect(); l++ {
		atLevel(l, func() {
			for name, test := range map[string]func(t *testing.T){
				"gemm": TestGemmAgainstFloat64, "gemm64": TestGemm64, "determinism": TestGemmDeterminism, "half": TestGemmHalfWeights,
				"syrk": TestSyrkTN, "attention": TestAttentionAgainstReference, "prefix": TestAttentionPrefix, "cholesky": TestCholesky,
				"upper": TestCholeskyUpper, "orthogonal": TestRandomOrthogonal, "vectors": TestVectors, "wide": TestAddWide, "outer": TestAddOuter16, "hadamard": TestHadamard, "rounding": TestRoundingCost, "lanes": TestRoundLanes, "exp": TestExp32,
				"softmax": TestSoftmax, "norms": TestNorms, "masked norms": TestMaskedNorm, "whole norms": TestNormOverAllChannels, "activations": TestActivations,
				"slopes": TestActivationBackIsTheSlope, "adamw": TestAdamW,
				"stored": TestStored16, "q8": TestQuantizeQ8, "blocks": TestBlockKernels, "searches": TestSearches, "root weights": TestRootWeights, "load": TestSearchLoad,
				"stored rounding": TestStoredRounding,
			} {
				t.Run(fmt.Sprint(name, "/", l), test)
			}
		})
	}
}

// everything runs kernels on inputs from a seed and returns all that they give.
func everything(seed uint64, m, n, k int) (f32 []float32, f64 []float64) {
	rng := newRand(seed)
	x, w := randoms(rng, m*k), randoms(rng, n*k)
	h := make([]uint16, n*k)
	F32ToBF16(h, w)
	y := randoms(rng, m*n)
	GemmNT(y, n, x, k, F32Weights(w, k), m, n, k, 1, nil)
	f32 = append(f32, y...)
	GemmNT(y, n, x, k, Weights{U16: h, BF16: true, LD: k}, m, n, k, 0, nil)
	f32 = append(f32, y...)
	F32ToF16(h, w)
	GemmNT(y, n, x, k, Weights{U16: h, LD: k}, m, n, k, 0.5, nil)
	f32 = append(f32, y...)
	GemmNN(y, n, x, k, w, n, m, n, k, -1, 1, nil)
	f32 = append(f32, y...)
	GemmTN(y, n, x, m, w, n, m, n, k, 2, 0, nil)
	f32 = append(f32, y...)

	e := make([]float32, len(x))
	for _, s := range []float32{1, 30} {
		for i, v := range x {
			e[i] = v * s
		}
		f32 = append(f32, Dot(x, e), Sum(e), Max(e))
		Exp32(e, e)
		f32 = append(f32, e...)
	}
	f32 = append(f32, Softmax(e, x))
	Axpy(e, 0.3, x)
	Scale(e, 1.1)
	f32 = append(f32, e...)
	SiLUMul(e, x, e, len(x), nil)
	f32 = append(f32, e...)
	f32 = append(f32, RoundingCost(x, nil, &RoundingGrid{0.1, 10, -4, 3}))
	outer := make([]float32, 16*len(x))
	AddOuter16(outer, x, &[16]float32{1, 2, 3, 0.1, 0.2, 0.3})
	f32 = append(f32, outer...)
	GELU(e, x, len(x), true, nil)
	f32 = append(f32, e...)

	t, u := randoms(rng, 36*32), randoms64(rng, 12*64)
	Hadamard32(t)
	Hadamard(u)
	f32, f64 = append(f32, t...), append(f64, u...)

	a, b := randoms64(rng, m*k), randoms64(rng, n*k)
	z, g := randoms64(rng, m*n), make([]float64, k*k)
	GemmNT64(z, n, a, k, b, k, m, n, k, -1, 1, nil)
	f64 = append(f64, z...)
	GemmNN64(z, n, a, k, b, n, m, n, k, 1, 0, nil)
	f64 = append(f64, z...)
	SyrkTN(g, x, k, y[:min(m, len(y))], min(m, len(y)), k, nil)
	return f32, append(f64, g...)
}

// AVX2 and AVX-512 must agree bit for bit.
func TestLevelsAgree(t *testing.T) {
	if detect() < levelAVX512 {
		t.Log("only one level of assembly on this processor")
		return
	}
	for i, s := range gemmSizes {
		var a, b []float32
		var c, d []float64
		atLevel(levelAVX2, func() { a, c = everything(uint64(i), s[0], s[1], s[2]) })
		atLevel(levelAVX512, func() { b, d = everything(uint64(i), s[0], s[1], s[2]) })
		same(t, fmt.Sprint(s), a, b)
		same(t, fmt.Sprint(s, " f64"), c, d)
	}
	var factors [2][]float64
	for l := range factors {
		factors[l] = positive(3, 400)
		atLevel(levelAVX2+l, func() {
			if err := CholeskyUpperMixed(factors[l], 400, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	for i := range 400 {
		same(t, fmt.Sprint("Cholesky, row ", i), factors[0][i*401:(i+1)*400], factors[1][i*401:(i+1)*400])
	}
	for _, mask := range attnMasks {
		h := randomHead(3, 333, 40, 1)
		h.Sink, h.Recent = mask[0], mask[1]
		var out [2][]float32
		for l := range out {
			out[l] = make([]float32, 333*42)
			atLevel(levelAVX2+l, func() {
				lse := out[l][333*40:][:333]
				AttentionHead(out[l], 40, lse, h, 0, 333)
				AttentionColumnSums(out[l][333*41:], lse, h, 0, 333)
			})
		}
		same(t, fmt.Sprint("attention ", mask), out[0], out[1])
	}
}

// FuzzAgainstGeneric compares assembly with plain Go, which differs by the rounding of products alone.
// fma32 is the multiply-add of float32 with one rounding, in plain Go: the product is exact in float64, the sum is rounded
// to odd there, so that the second rounding does no harm (Boldo and Melquiond, IEEE TC 57(4), 2008).
func fma32(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	v := s - p
	if rest := (p - (s - v)) + (q - v); rest != 0 && math.Float64bits(s)&1 == 0 {
		s = math.Nextafter(s, s+math.Copysign(math.Inf(1), rest))
	}
	return float32(s)
}

// TestBitsOfFMA: the kernels give the bits of the documented loop with multiply-adds in plain Go.
func TestBitsOfFMA(t *testing.T) {
	for i, s := range gemmSizes {
		m, n, k := s[0], s[1], s[2]
		rng := newRand(uint64(i))
		x, w, want := randoms(rng, m*k), randoms(rng, n*k), make([]float32, m*n)
		for r := range m {
			for c := range n {
				for l0 := 0; l0 < k; l0 += blockK {
					var sum float32
					for l := l0; l < min(l0+blockK, k); l++ {
						sum = fma32(x[r*k+l], w[c*k+l], sum)
					}
					want[r*n+c] += sum
				}
			}
		}
		for l := levelAVX2; l <= detect(); l++ {
			for threads := 1; threads <= 3; threads++ {
				got := make([]float32, m*n)
				atLevel(l, func() { GemmNT(got, n, x, k, F32Weights(w, k), m, n, k, 0, workers(threads)) })
				same(t, fmt.Sprint(s, " level ", l, ", threads ", threads), got, want)
			}
		}
	}
}

func FuzzAgainstGeneric(f *testing.F) {
	for i, s := range gemmSizes {
		f.Add(uint64(i), uint16(s[0]), uint16(s[1]), uint16(s[2]))
	}
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k uint16) {
		m, n, k = m%130, n%130, k%600
		got32, got64 := everything(seed, int(m), int(n), int(k))
		var want32 []float32
		var want64 []float64
		atLevel(levelGeneric, func() { want32, want64 = everything(seed, int(m), int(n), int(k)) })
		tol := 1e-5 * math.Sqrt(float64(k)+float64(m)*float64(k)+16) // Dot and Sum run over m*k values
		closeTo(t, "f32", got32, want32, tol)
		closeTo(t, "f64", got64, want64, tol)
	})
}

func BenchmarkLevels(b *testing.B) {
	const n = 512
	x, w, y := randoms(newRand(1), n*n), randoms(newRand(2), n*n), make([]float32, n*n)
	a, c, z := randoms64(newRand(1), n*n), randoms64(newRand(2), n*n), make([]float64, n*n)
	for l := levelGeneric; l <= detect(); l++ {
		atLevel(l, func() {
			b.Run(fmt.Sprint("f32/", l), func(b *testing.B) {
				bench(b, 2*n*n*n, func() { GemmNT(y, n, x, n, F32Weights(w, n), n, n, n, 0, nil) })
			})
			b.Run(fmt.Sprint("f64/", l), func(b *testing.B) {
				bench(b, 2*n*n*n, func() { GemmNT64(z, n, a, n, c, n, n, n, n, 1, 0, nil) })
			})
		})
	}
}

// Packed weights must be the same words at every level, also for values that round to denormals, infinities and NaN.
func TestPackBF16Levels(t *testing.T) {
	rng := newRand(15)
	const n, k = 67, 333
	w, h := make([]float32, n*k), make([]uint16, n*k)
	for i := range w {
		w[i], h[i] = math.Float32frombits(rng.Uint32()), uint16(rng.Uint32())
		if i%5 == 0 {
			w[i] = math.Float32frombits(rng.Uint32() & 0x80ffffff) // near the denormals
		}
	}
	for _, weights := range []Weights{F32Weights(w, k), {U16: h, BF16: true, LD: k}, {U16: h, LD: k}} {
		got := PackBF16(weights, n, k, nil)
		atLevel(levelGeneric, func() {
			for i, word := range PackBF16(weights, n, k, nil).words {
				if got.words[i] != word {
					t.Fatalf("word %d is %x, plain Go gives %x", i, got.words[i], word)
				}
			}
		})
	}
}
