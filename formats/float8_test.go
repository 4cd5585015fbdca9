package formats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// small describes a float of few bits for the tests: the value of every code, by the formula of the specification, and how it is encoded.
type small struct {
	name     string
	exp, man int
	codes    int // without those of the sign: 1<<(exp+man)
	max      float64
	infinite bool
	from     func(float32) uint8
	to       func(uint8) float32
	values   []float64 // of the codes up to max
}

func smalls() []small {
	list := []small{
		{"E4M3", 4, 3, 128, 448, false, E4M3FromF32, E4M3ToF32, nil},
		{"E5M2", 5, 2, 128, 57344, true, E5M2FromF32, E5M2ToF32, nil},
		{"E2M1", 2, 1, 8, 6, false, E2M1FromF32, E2M1ToF32, nil},
	}
	for i := range list {
		s := &list[i]
		for c := 0; c < s.codes && s.value(c) <= s.max; c++ {
			s.values = append(s.values, s.value(c))
		}
	}
	return list
}

// value is (-1)^s 2^(e-bias) (1 + m/2^man), or 2^(1-bias) m/2^man where e is 0.
func (s small) value(code int) float64 {
	bias, e, m := 1<<(s.exp-1)-1, code&(s.codes-1)>>s.man, code&(1<<s.man-1)
	v := math.Pow(2, float64(e-bias)) * (1 + float64(m)/math.Pow(2, float64(s.man)))
	if e == 0 {
		v = math.Pow(2, float64(1-bias)) * float64(m) / math.Pow(2, float64(s.man))
	}
	if code >= s.codes {
		v = -v
	}
	return v
}

// special says what a code means if it is no number.
func (s small) special(code int) (nan, inf bool) {
	switch a := code & (s.codes - 1); s.name {
	case "E4M3":
		return a == 0x7f, false
	case "E5M2":
		return a > 0x7c, a == 0x7c
	}
	return false, false
}

// nearest is the code of the value nearest to v in magnitude, by comparison with all of them; the even one of two.
func (s small) nearest(v float64) int {
	a, best, top := math.Abs(v), 0, len(s.values)-1
	for c, x := range s.values {
		d, least := math.Abs(x-min(a, s.max)), math.Abs(s.values[best]-min(a, s.max))
		if d < least || d == least && c&1 == 0 {
			best = c
		}
	}
	// Infinity is what would be the next value.
	if step := s.max - s.values[top-1]; s.infinite && a >= s.max+step/2 {
		best = top + 1
	}
	if math.Signbit(v) {
		best += s.codes
	}
	return best
}

func TestSmallFloatCodes(t *testing.T) {
	for _, s := range smalls() {
		for c := range 2 * s.codes {
			got := s.to(uint8(c))
			nan, inf := s.special(c)
			switch {
			case nan:
				if got == got {
					t.Errorf("%s %#x is %v, want NaN", s.name, c, got)
				}
			case inf:
				if !math.IsInf(float64(got), 0) || math.Signbit(float64(got)) != (c >= s.codes) {
					t.Errorf("%s %#x is %v, want an infinity", s.name, c, got)
				}
			case float64(got) != s.value(c) || math.Signbit(float64(got)) != (c >= s.codes):
				t.Errorf("%s %#x is %v, want %v", s.name, c, got, s.value(c))
			}
			if back := s.from(got); !nan && int(back) != c {
				t.Errorf("%s %#x comes back as %#x", s.name, c, back)
			}
			if nan {
				if n, _ := s.special(int(s.from(got))); !n {
					t.Errorf("%s: a NaN becomes %#x", s.name, s.from(got))
				}
			}
		}
	}
	// The figures of the specifications.
	for _, c := range []struct{ got, want float32 }{
		{E4M3ToF32(0x7e), 448}, {E4M3ToF32(0x08), 0x1p-6}, {E4M3ToF32(0x07), 0x1.cp-7}, {E4M3ToF32(0x01), 0x1p-9},
		{E5M2ToF32(0x7b), 57344}, {E5M2ToF32(0x04), 0x1p-14}, {E5M2ToF32(0x03), 0x1.8p-15}, {E5M2ToF32(0x01), 0x1p-16},
		{E2M1ToF32(7), 6}, {E2M1ToF32(2), 1}, {E2M1ToF32(1), 0.5}, {E8M0ToF32(127), 1}, {E8M0ToF32(0), 0x1p-127}, {E8M0ToF32(254), 0x1p127},
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

func TestSmallFloatRounding(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for _, s := range smalls() {
		var list []float32
		for c, a := range s.values[:len(s.values)-1] {
			b := s.values[c+1]
			mid := float32((a + b) / 2) // exact: one bit more than the type
			list = append(list, float32(a), mid, math.Nextafter32(mid, 0), math.Nextafter32(mid, math.MaxFloat32), float32(a+(b-a)*r.Float64()))
		}
		edge := float32(s.max)
		for _, f := range []float32{1, 1.03, 1.0357142, 1.0357144, 1.07, 1.0714285, 1.0714287, 1.1, 2, 1e10, 1e30} {
			list = append(list, edge*f)
		}
		list = append(list, 0, math.SmallestNonzeroFloat32, 0x1p-126, 0x1p-20, math.MaxFloat32)
		for range 20000 {
			list = append(list, float32(math.Exp2(r.Float64()*40-24)))
		}
		for _, v := range list {
			for _, v := range []float32{v, -v} {
				if got, want := int(s.from(v)), s.nearest(float64(v)); got != want {
					t.Fatalf("%s of %v (%x) is %#x, want %#x", s.name, v, math.Float32bits(v), got, want)
				}
			}
		}
		for _, v := range []float32{float32(math.Inf(1)), float32(math.Inf(-1))} {
			got := s.to(s.from(v))
			if want := math.Copysign(s.max, float64(v)); float64(got) != want && !(s.infinite && got == v) {
				t.Errorf("%s of %v is %v", s.name, v, got)
			}
		}
	}
	if got := E2M1FromF32(float32(math.NaN())); got != 0 {
		t.Errorf("E2M1 of NaN is %d", got)
	}
}

// Every float16 stands for many float32: all of them, and their negatives.
func TestSmallFloatsOfAllHalves(t *testing.T) {
	for _, s := range smalls() {
		for h := range 1 << 16 {
			v := F16ToF32(uint16(h))
			if v != v || math.IsInf(float64(v), 0) {
				continue
			}
			if got, want := int(s.from(v)), s.nearest(float64(v)); got != want {
				t.Fatalf("%s of %v is %#x, want %#x", s.name, v, got, want)
			}
		}
	}
}

func TestE8M0(t *testing.T) {
	for c := range 255 {
		v := E8M0ToF32(uint8(c))
		if float64(v) != math.Ldexp(1, c-127) {
			t.Errorf("code %d is %v", c, v)
		}
		if got := E8M0FromF32(v); int(got) != c {
			t.Errorf("code %d comes back as %d", c, got)
		}
		below, half := math.Nextafter32(1.5*v, 0), 1.5*v
		if got := E8M0FromF32(below); int(got) != c {
			t.Errorf("%v becomes code %d, want %d", below, got, c)
		}
		if got := E8M0FromF32(half); int(got) != min(c+1, 254) {
			t.Errorf("%v becomes code %d, want %d", half, got, min(c+1, 254))
		}
	}
	if v := E8M0ToF32(255); v == v {
		t.Errorf("code 255 is %v", v)
	}
	for v, want := range map[float32]uint8{0: 0, 1e-45: 0, float32(math.Copysign(0, -1)): 0, -1: 255, math.MaxFloat32: 254, float32(math.Inf(1)): 255} {
		if got := E8M0FromF32(v); got != want {
			t.Errorf("%v becomes code %d, want %d", v, got, want)
		}
	}
	if got := E8M0FromF32(float32(math.NaN())); got != 255 {
		t.Errorf("NaN becomes code %d", got)
	}
}
