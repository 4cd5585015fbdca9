package num

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

// Every number of 16 bits widens to its value, in parts of all lengths, and comes back.
func TestStored16(t *testing.T) {
	src := make([]byte, 2<<16)
	for h := range 1 << 16 {
		binary.LittleEndian.PutUint16(src[2*h:], uint16(h))
	}
	for name, c := range map[string]struct {
		decode func([]float32, []byte)
		encode func([]byte, []float32)
		value  func(h uint16) float64
		nan    func(h uint16) uint16 // the quiet one
	}{
		"bf16": {DecodeBF16, EncodeBF16, func(h uint16) float64 { return float64(math.Float32frombits(uint32(h) << 16)) },
			func(h uint16) uint16 { return h | 0x40 }},
		"f16": {DecodeF16, EncodeF16, halfByDefinition, func(h uint16) uint16 { return h | 0x200 }},
	} {
		got := make([]float32, 1<<16)
		for from, n := 0, 0; from < len(got); from, n = from+n, (n+1)%101 {
			n = min(n, len(got)-from)
			c.decode(got[from:from+n], src[2*from:])
		}
		for h, v := range got {
			want := c.value(uint16(h))
			if !(float64(v) == want && math.Signbit(want) == math.Signbit(float64(v)) || math.IsNaN(want) && math.IsNaN(float64(v))) {
				t.Fatalf("%s: %#x widens to %v, want %v", name, h, v, want)
			}
		}
		back := make([]byte, len(src))
		for from, n := 0, 0; from < len(got); from, n = from+n, (n+1)%101 {
			n = min(n, len(got)-from)
			c.encode(back[2*from:], got[from:from+n])
		}
		for h := range 1 << 16 {
			want := uint16(h)
			if math.IsNaN(c.value(want)) {
				want = c.nan(want)
			}
			if b := binary.LittleEndian.Uint16(back[2*h:]); b != want {
				t.Fatalf("%s: %#x comes back as %#x", name, h, b)
			}
		}
	}
}

// halfByDefinition is the value of IEEE 754 binary16.
func halfByDefinition(h uint16) float64 {
	exp, man, sign := int(h>>10&31), float64(h&1023), 1-2*float64(h>>15)
	switch {
	case exp == 31 && man == 0:
		return math.Inf(int(sign))
	case exp == 31:
		return math.NaN()
	case exp == 0:
		return math.Copysign(math.Ldexp(man, -24), sign)
	}
	return sign * math.Ldexp(1024+man, exp-25)
}

// Values between two numbers of 16 bits go to the nearer one, or to the even one of two as near; ranges end at an infinity.
func TestStoredRounding(t *testing.T) {
	for name, c := range map[string]struct {
		decode func([]float32, []byte)
		encode func([]byte, []float32)
		next   float64 // the value after the largest one
	}{"bf16": {DecodeBF16, EncodeBF16, 0x1p128}, "f16": {DecodeF16, EncodeF16, 65536}} {
		all := make([]float32, 1<<16)
		bytes := make([]byte, 2<<16)
		for h := range 1 << 16 {
			binary.LittleEndian.PutUint16(bytes[2*h:], uint16(h))
		}
		c.decode(all, bytes)
		steps := make([]float64, 0, 1<<15) // the numbers that are not negative, ascending; their index is their code
		for _, v := range all[:1<<15] {
			switch f := float64(v); {
			case math.IsInf(f, 1):
				steps = append(steps, c.next)
			case !math.IsNaN(f):
				steps = append(steps, f)
			}
		}
		x := roundingCases(steps)
		bytes = make([]byte, 2*len(x))
		c.encode(bytes, x)
		for i, v := range x {
			got, a := binary.LittleEndian.Uint16(bytes[2*i:]), math.Abs(float64(v))
			if math.IsNaN(a) {
				if !math.IsNaN(float64(all[got])) {
					t.Fatalf("%s: NaN becomes %#x", name, got)
				}
				continue
			}
			k, _ := slices.BinarySearch(steps, a)
			k = min(k, len(steps)-1)
			if k > 0 && a < steps[k] {
				if lo, hi := a-steps[k-1], steps[k]-a; lo < hi || lo == hi && k%2 == 1 {
					k--
				}
			}
			if want := uint16(k) | uint16(math.Float32bits(v)>>31)<<15; got != want {
				t.Fatalf("%s: %v (%#x) becomes %#x, want %#x", name, v, math.Float32bits(v), got, want)
			}
		}
	}
}

// roundingCases returns any float32, and numbers halfway between two steps or next to that.
func roundingCases(steps []float64) []float32 {
	rng := newRand(5)
	x := []float32{float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32}
	for k, v := range steps[1:] {
		half := float32((v + steps[k]) / 2)
		x = append(x, half, -half, math.Nextafter32(half, 0), math.Nextafter32(half, math.MaxFloat32), math.Float32frombits(rng.Uint32()))
	}
	return x
}

func BenchmarkStored(b *testing.B) {
	const n = 64 << 10
	f, h := randoms(newRand(1), n), make([]byte, 2*n)
	for name, run := range map[string]func(){
		"DecodeBF16": func() { DecodeBF16(f, h) }, "DecodeF16": func() { DecodeF16(f, h) },
		"EncodeBF16": func() { EncodeBF16(h, f) }, "EncodeF16": func() { EncodeF16(h, f) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(2 * n)
			for b.Loop() {
				run()
			}
		})
	}
}
