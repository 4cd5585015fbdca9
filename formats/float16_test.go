package formats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// format16 is a 16-bit binary floating-point format for the oracle.
type format16 struct {
	name     string
	mant     int // stored bits of the significand
	bias     int
	toF32    func(uint16) float32
	fromF32  func(float32) uint16
	infinity uint16
	table    []float64 // value of every pattern with sign bit 0
}

var formats16 = []format16{
	newFormat16(format16{"f16", 10, 15, F16ToF32, F16FromF32, 0x7c00, nil}),
	newFormat16(format16{"bf16", 7, 127, BF16ToF32, BF16FromF32, 0x7f80, nil}),
}

func newFormat16(f format16) format16 {
	for i := range 1 << 15 {
		f.table = append(f.table, f.compute(uint16(i)))
	}
	return f
}

// value is what a pattern means; the caller handles infinities and NaNs.
func (f *format16) value(h uint16) float64 {
	if h&0x8000 != 0 {
		return -f.table[h&0x7fff]
	}
	return f.table[h]
}

// compute gives the value of a pattern with sign bit 0 in float64, infinities and NaNs as if they were finite.
func (f *format16) compute(h uint16) float64 {
	exp := int(h) >> f.mant
	m := float64(int(h) & (1<<f.mant - 1))
	if exp == 0 {
		m = math.Ldexp(m, 1-f.bias-f.mant)
	} else {
		m = math.Ldexp(m+math.Ldexp(1, f.mant), exp-f.bias-f.mant)
	}
	return m
}

func (f *format16) special(h uint16) bool { return h&f.infinity == f.infinity }

// round is the oracle: nearest by float64 distance over the neighbours, ties to the even pattern. The pattern after the
// largest finite one counts as the next power of two, which decides overflow as IEEE 754 does.
func (f *format16) round(v float64) uint16 {
	sign := uint16(0)
	if math.Signbit(v) {
		sign, v = 0x8000, -v
	}
	lo, hi := uint16(0), f.infinity
	for lo < hi {
		mid := lo + (hi-lo)/2
		if f.value(mid) < v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 || f.value(lo) == v {
		return sign | lo
	}
	below, above := v-f.value(lo-1), f.value(lo)-v
	if below < above || below == above && (lo-1)%2 == 0 {
		lo--
	}
	return sign | lo
}

func TestAllPatternsDecode(t *testing.T) {
	for _, f := range formats16 {
		for i := range 1 << 16 {
			h := uint16(i)
			got := float64(f.toF32(h))
			switch {
			case f.special(h) && h&(1<<f.mant-1) == 0:
				if !math.IsInf(got, 1-int(h>>15)*2) {
					t.Fatalf("%s %#04x = %v, want infinity", f.name, h, got)
				}
			case f.special(h):
				if !math.IsNaN(got) {
					t.Fatalf("%s %#04x = %v, want NaN", f.name, h, got)
				}
			case got != f.value(h) || math.Signbit(got) != (h&0x8000 != 0):
				t.Fatalf("%s %#04x = %v, want %v", f.name, h, got, f.value(h))
			}
		}
	}
}

func TestAllPatternsReturn(t *testing.T) {
	for _, f := range formats16 {
		for i := range 1 << 16 {
			h := uint16(i)
			want := h
			if f.special(h) && h&(1<<f.mant-1) != 0 {
				want |= 1 << (f.mant - 1) // quiet
			}
			if got := f.fromF32(f.toF32(h)); got != want {
				t.Fatalf("%s %#04x returns as %#04x, want %#04x", f.name, h, got, want)
			}
		}
	}
}

// TestRoundingAroundAllPatterns rounds, for each pattern, the value halfway to the next one, and the float32 values
// beside it.
func TestRoundingAroundAllPatterns(t *testing.T) {
	for _, f := range formats16 {
		for i := range 1 << 16 {
			h := uint16(i)
			if f.special(h) {
				continue
			}
			half := float32((f.value(h) + f.value(h+1)) / 2)
			for _, v := range []float32{
				half, math.Nextafter32(half, 0), math.Nextafter32(half, float32(math.Inf(1))),
				math.Nextafter32(half, float32(math.Inf(-1))),
			} {
				if math.IsInf(float64(v), 0) {
					continue
				}
				if got, want := f.fromF32(v), f.round(float64(v)); got != want {
					t.Fatalf("%s of %v (%#08x) = %#04x, want %#04x", f.name, v, math.Float32bits(v), got, want)
				}
			}
		}
	}
}

func TestRoundingRandomPatterns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		v := math.Float32frombits(rng.Uint32())
		for _, f := range formats16 {
			got := f.fromF32(v)
			switch {
			case v != v:
				if !f.special(got) || got&(1<<(f.mant-1)) == 0 {
					t.Fatalf("%s of NaN %#08x = %#04x, not a quiet NaN", f.name, math.Float32bits(v), got)
				}
			case math.IsInf(float64(v), 0):
				if got&0x7fff != f.infinity {
					t.Fatalf("%s of %v = %#04x", f.name, v, got)
				}
			default:
				if want := f.round(float64(v)); got != want {
					t.Fatalf("%s of %v = %#04x, want %#04x", f.name, v, got, want)
				}
			}
		}
	}
}
