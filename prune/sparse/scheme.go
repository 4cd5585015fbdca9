package sparse

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// Par runs body(0..n-1) in any order and waits; nil runs serially.
type Par = func(n int, body func(i int))

// MaxBlock is the most columns whose mask SparseGPT chooses at once, and the widest group of an n:m pattern.
const MaxBlock = 1024

// Scheme says how a matrix is made sparse.
type Scheme struct {
	Pattern
	// PerRow lets each row of outputs lose its own share, as Wanda does; else the share is of the whole matrix. It means
	// nothing to n:m patterns and to SparseGPT.
	PerRow bool
	Block  int     // SparseGPT: columns whose mask is chosen at once, a multiple of M; 128 is usual
	Damp   float64 // SparseGPT: share of the mean of the Hessian's diagonal that is added to it; 0.01 is usual
}

// Check reports why a weight [out, in] cannot be made sparse under the scheme, nil if it can.
func (s Scheme) Check(out, in int) error {
	if out <= 0 || in <= 0 {
		return fmt.Errorf("weight [%d, %d] is empty", out, in)
	}
	if err := s.check(in); err != nil {
		return err
	}
	if !(s.Damp >= 0) || math.IsInf(s.Damp, 1) {
		return fmt.Errorf("damping %v; a finite number of at least 0 is needed", s.Damp)
	}
	return nil
}

// Zeros returns how many weights of [out, in] are set to 0. Weights that are 0 without that come on top.
func (s Scheme) Zeros(out, in int) int {
	switch {
	case s.M > 0:
		return out * (in / s.M) * (s.M - s.N)
	case s.PerRow:
		return out * s.of(in)
	}
	return s.of(out * in)
}

// Holds reports how the weight w [out, in] breaks the scheme: fewer zeros than there must be, or a group of an n:m pattern of
// which more than n are not 0. It returns the number of zeros.
func (s Scheme) Holds(w []float32, out, in int) (zeros int, err error) {
	if err := s.Check(out, in); err != nil {
		return 0, fmt.Errorf("sparse: %w", err)
	}
	if len(w) != out*in {
		panic(fmt.Sprintf("sparse: %d weights for [%d, %d]", len(w), out, in))
	}
	for i, v := range w {
		if v == 0 {
			zeros++
		}
		if s.M == 0 || (i+1)%s.M != 0 {
			continue
		}
		group, left := w[i+1-s.M:i+1], 0
		for _, g := range group {
			if g != 0 {
				left++
			}
		}
		if left > s.N {
			return zeros, fmt.Errorf("sparse: row %d, inputs %d to %d: %d weights are not 0, the pattern is %s", i/in, i%in+1-s.M, i%in, left, s.Pattern)
		}
	}
	if want := s.Zeros(out, in); zeros < want {
		return zeros, fmt.Errorf("sparse: %d weights are 0, the pattern wants %d", zeros, want)
	}
	return zeros, nil
}

// check is what every method asks of its arguments. Wrong lengths are bugs and panic.
func check(w []float32, out, in int, s Scheme, store formats.DType) error {
	if err := checkScheme(out, in, s, store); err != nil {
		return err
	}
	if len(w) != out*in {
		panic(fmt.Sprintf("sparse: %d weights for [%d, %d]", len(w), out, in))
	}
	for i, v := range w {
		if v-v != 0 {
			return notFinite(i/in, i%in, v)
		}
	}
	return nil
}

// checkScheme is what is asked whatever the weights are.
func checkScheme(out, in int, s Scheme, store formats.DType) error {
	if err := s.Check(out, in); err != nil {
		return fmt.Errorf("sparse: %w", err)
	}
	if store != formats.BF16 && store != formats.F16 && store != formats.F32 {
		return fmt.Errorf("sparse: weights of type %s; supported: BF16, F16, F32", store)
	}
	return nil
}

func notFinite(row, col int, v float32) error {
	return fmt.Errorf("sparse: weight [%d, %d] is %v", row, col, v)
}

// rounder returns the function that rounds to a stored type and back.
func rounder(dt formats.DType) func(float32) float32 {
	switch dt {
	case formats.BF16:
		return func(f float32) float32 { return formats.BF16ToF32(formats.BF16FromF32(f)) }
	case formats.F16:
		return func(f float32) float32 { return formats.F16ToF32(formats.F16FromF32(f)) }
	}
	return func(f float32) float32 { return f }
}

// chunkRows is how many rows of outputs one body of a parallel loop takes.
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
