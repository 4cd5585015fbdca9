package packed

import (
	"math"

	"modelpress/formats"
)

// span is the interval of factors x for which round(m*x) is w, over all pairs of multiples m and weights w that it has seen.
type span struct {
	dt     formats.DType // that weights are rounded to
	lo, hi float64
}

func newSpan(dt formats.DType) *span { return &span{dt: dt, hi: math.Inf(1)} }

// meet narrows the interval by a pair, and reports whether anything is left of it.
func (s *span) meet(m, w float32) bool {
	if m == 0 || w == 0 {
		return m == w
	}
	a, q := float32(math.Abs(float64(w))), math.Abs(float64(m))
	lo, hi := halfway(a, s.dt)
	s.lo, s.hi = max(s.lo, lo/q), min(s.hi, hi/q)
	return s.lo <= s.hi
}

// holds reports whether x lies in the interval.
func (s *span) holds(x float64) bool { return s.lo <= x && x <= s.hi }

// middle returns the middle of the interval, infinity where it has no end.
func (s *span) middle() float64 { return s.lo + (s.hi-s.lo)/2 }

// halfway returns the points halfway from a > 0 to its neighbours in a type: what lies between them rounds to a. It is empty where
// a is no value of the type.
func halfway(a float32, dt formats.DType) (lo, hi float64) {
	below, above := a, a
	switch dt {
	case formats.BF16:
		h := formats.BF16FromF32(a)
		if formats.BF16ToF32(h) != a {
			return 1, 0
		}
		below, above = formats.BF16ToF32(h-1), formats.BF16ToF32(h+1)
	case formats.F16:
		h := formats.F16FromF32(a)
		if formats.F16ToF32(h) != a {
			return 1, 0
		}
		below, above = formats.F16ToF32(h-1), formats.F16ToF32(h+1)
	default:
		below, above = math.Nextafter32(a, 0), math.Nextafter32(a, float32(math.Inf(1)))
	}
	return (float64(below) + float64(a)) / 2, (float64(above) + float64(a)) / 2
}

// regrid looks for a scale of type dt under which FP8 stands for every weight of the block, in the type of the scale, to the bit.
// near is such that the codes under it are those under the scale that is looked for. For weights that lie on no grid it ends
// within a few of them.
func (b block) regrid(near float32, dt formats.DType) (float32, bool) {
	s := newSpan(dt)
	if !b.each(func(row []float32, _ int) bool {
		for _, v := range row {
			if !s.meet(formats.E4M3ToF32(formats.E4M3FromF32(v/near)), v) {
				return false
			}
		}
		return true
	}) {
		return 0, false
	}
	if s.holds(float64(near)) && b.onGrid(near, dt) {
		return near, true
	}
	// Of the values of the type, the nearest to the middle lies in the interval if any does.
	x := round(float32(s.middle()), dt)
	return x, x > 0 && b.onGrid(x, dt)
}

// onGrid reports whether FP8 under a scale stands for every weight of the block.
func (b block) onGrid(scale float32, dt formats.DType) bool {
	return b.each(func(row []float32, _ int) bool {
		for _, v := range row {
			if round(formats.E4M3ToF32(formats.E4M3FromF32(v/scale))*scale, dt) != v {
				return false
			}
		}
		return true
	})
}
