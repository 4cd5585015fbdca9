package convert

import "math"

// pairSum sums what a comparison says of the values of two tensors: errorSum of the first against the second, with bits and not values
// that decide whether one changed, and more. A pair with a value that is not finite is counted and goes into no other sum.
type pairSum struct {
	errorSum
	other, cross float64  // Σb², Σab
	zeros        int64    // pairs that differ in the sign of a zero only
	nan, inf     [2]int64 // of each side
	apart        int64    // pairs that differ and that a value is not finite of
}

// expMask32 and expMask64 are the bits of the exponent, all set in infinities and NaNs.
const (
	expMask32 = 0x7f800000
	expMask64 = 0x7ff0000000000000
)

// add compares the values of one side with those of the other, of which there are as many.
func (s *pairSum) add(a, b []float32) {
	var same, den, other, cross, num float64
	changed := int64(0)
	b = b[:len(a)]
	for i, v := range a {
		x, y := math.Float32bits(v), math.Float32bits(b[i])
		if x&expMask32 == expMask32 || y&expMask32 == expMask32 {
			s.odd(float64(v), float64(b[i]), x == y)
			continue
		}
		f := float64(v)
		if x == y {
			same += float64(f * f)
			continue
		}
		g := float64(b[i])
		d := f - g
		changed++
		if d == 0 {
			s.zeros++
		}
		den += float64(f * f)
		other += float64(g * g)
		cross += float64(f * g)
		num += float64(d * d)
		s.max = max(s.max, d, -d)
	}
	s.n += int64(len(a))
	s.changed += changed
	s.num += num
	s.den += same + den
	s.other += same + other
	s.cross += same + cross
}

// addWide is add for values of other types. same reports whether the stored values are one.
func (s *pairSum) addWide(a, b []float64, same func(i int) bool) {
	for i, f := range a {
		g, equal := b[i], same(i)
		if math.Float64bits(f)&expMask64 == expMask64 || math.Float64bits(g)&expMask64 == expMask64 {
			s.odd(f, g, equal)
			continue
		}
		d := f - g
		if !equal {
			s.changed++
			if f == 0 && g == 0 {
				s.zeros++
			}
		}
		s.den += float64(f * f)
		s.other += float64(g * g)
		s.cross += float64(f * g)
		s.num += float64(d * d)
		s.max = max(s.max, d, -d)
	}
	s.n += int64(len(a))
}

// odd counts a pair with a value that is not finite.
func (s *pairSum) odd(a, b float64, same bool) {
	for side, v := range [2]float64{a, b} {
		switch {
		case math.IsNaN(v):
			s.nan[side]++
		case math.IsInf(v, 0):
			s.inf[side]++
		}
	}
	if !same {
		s.changed++
		s.apart++
	}
}

// merge adds the sum of the values that follow.
func (s *pairSum) merge(o pairSum) {
	s.errorSum.merge(o.errorSum)
	s.other += o.other
	s.cross += o.cross
	s.zeros += o.zeros
	s.apart += o.apart
	for side := range s.nan {
		s.nan[side] += o.nan[side]
		s.inf[side] += o.inf[side]
	}
}

// relative is Σ(a-b)²/Σa², nil where that is no finite number: where all of a is 0, and b is not.
func (s *pairSum) relative() *float64 {
	if s.num == 0 {
		return new(float64)
	}
	return finiteOrNil(rounded(s.num / s.den))
}

// cosine is Σab / √(Σa²·Σb²) to nine digits after the point, nil where one side is all 0.
func (s *pairSum) cosine() *float64 {
	const digits = 1e9
	return finiteOrNil(math.Round(s.cross/math.Sqrt(s.den)/math.Sqrt(s.other)*digits) / digits)
}

func finiteOrNil(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
