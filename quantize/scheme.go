package quantize

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// Par runs body(0..n-1) in any order and waits; nil runs serially.
type Par = func(n int, body func(i int))

// Scheme says how a matrix is quantized.
type Scheme struct {
	Bits      int     // 2, 3, 4 or 8
	Group     int     // columns that share a scale: 32, 64 or 128; -1 for one scale per output row
	Symmetric bool    // zero points are all 0
	Clip      bool    // search the scale that minimizes the error instead of the one that represents the extremes
	ActOrder  bool    // GPTQ: columns in descending order of the Hessian's diagonal, scales fixed beforehand
	Damp      float64 // GPTQ: share of the mean of the Hessian's diagonal that is added to it; 0.01 is usual
}

// Check reports why a weight [out, in] cannot be quantized under the scheme, nil if it can.
func (s Scheme) Check(out, in int) error {
	switch s.Bits {
	case 2, 3, 4, 8:
	default:
		return fmt.Errorf("%d bits; supported: 2, 3, 4, 8", s.Bits)
	}
	switch s.Group {
	case 32, 64, 128, -1:
	default:
		return fmt.Errorf("group size %d; supported: 32, 64, 128, -1 (one scale per output row)", s.Group)
	}
	if out <= 0 || in <= 0 {
		return fmt.Errorf("weight [%d, %d] is empty", out, in)
	}
	if s.Group > 0 && in%s.Group != 0 {
		return fmt.Errorf("%d columns do not divide into groups of %d", in, s.Group)
	}
	if !(s.Damp >= 0) || math.IsInf(s.Damp, 1) {
		return fmt.Errorf("damping %v; a finite number of at least 0 is needed", s.Damp)
	}
	return nil
}

// Groups returns the number of scales in a row of in columns.
func (s Scheme) Groups(in int) int { return in / s.width(in) }

// width returns the number of columns that share a scale.
func (s Scheme) width(in int) int {
	if s.Group == -1 {
		return in
	}
	return s.Group
}

// limits returns the smallest and largest code.
func (s Scheme) limits() (lo, hi int) { return -1 << (s.Bits - 1), 1<<(s.Bits-1) - 1 }

// check is what RTN and GPTQ ask of their arguments. Wrong lengths are bugs and panic.
func check(w []float32, out, in int, s Scheme, store formats.DType) error {
	if err := s.check(out, in, store); err != nil {
		return err
	}
	if len(w) != out*in {
		panic(fmt.Sprintf("quantize: %d weights for [%d, %d]", len(w), out, in))
	}
	if i := notFinite(w); i >= 0 {
		return notFiniteWeight(i/in, i%in, w[i])
	}
	return nil
}

// check is what the scheme itself asks of a weight.
func (s Scheme) check(out, in int, store formats.DType) error {
	if err := s.Check(out, in); err != nil {
		return fmt.Errorf("quantize: %w", err)
	}
	if store != formats.BF16 && store != formats.F16 && store != formats.F32 {
		return fmt.Errorf("quantize: scales of type %s; supported: BF16, F16, F32", store)
	}
	return nil
}

func notFiniteWeight(row, col int, v float32) error {
	return fmt.Errorf("quantize: weight [%d, %d] is %v", row, col, v)
}

// notFinite returns the index of the first NaN or infinity, -1 where there is none.
func notFinite[T float32 | float64](v []T) int {
	for i, x := range v {
		if x-x != 0 {
			return i
		}
	}
	return -1
}

// chunkRows is how many output rows one body of a parallel loop takes.
const chunkRows = 64

// forRows runs body over chunks of rows [lo, hi).
func forRows(out int, par Par, body func(lo, hi int)) {
	each((out+chunkRows-1)/chunkRows, par, func(i int) { body(i*chunkRows, min((i+1)*chunkRows, out)) })
}

// each runs body(0..n-1) on par, in a loop where that is nil.
func each(n int, par Par, body func(i int)) {
	if par == nil {
		for i := range n {
			body(i)
		}
		return
	}
	par(n, body)
}
