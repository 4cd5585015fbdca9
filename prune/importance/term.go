package importance

import (
	"fmt"
	"math"
)

// Term says what [Taylor] takes of the series of the loss around the weights.
type Term string

// The terms, with w a weight, g the gradient of the mean loss over all tokens of all windows, and h = 1/N Σ g_n² over the N windows
// with g_n the gradient of the mean loss over the tokens of one: the diagonal of the empirical Fisher matrix in place of the Hessian's.
// Sums are over the coupled weights of a unit.
const (
	Mix    Term = "mix"    // Σ |w*g - w²*h/2|, param_mix of LLM-Pruner and its default
	First  Term = "first"  // Σ |w*g|, its param_first
	Second Term = "second" // Σ w²*h/2, its param_second but for the half
	Vector Term = "vector" // |Σ w*g|, its vectorize but for the absolute value, which it takes of each tensor
)

// check returns the term, Mix where none is named.
func (t Term) check() (Term, error) {
	switch t {
	case "":
		return Mix, nil
	case Mix, First, Second, Vector:
		return t, nil
	}
	return "", fmt.Errorf("importance: term %.40q is none of %q, %q, %q and %q", string(t), Mix, First, Second, Vector)
}

// squares reports whether the term needs the squares of gradients.
func (t Term) squares() bool { return t == Mix || t == Second }

// counts says what weights count for, from sums of the gradients by them and of their squares, of which the first is that of value at
// of the sums.
func (t Term) counts(w []float32, s *moments, from int) counts {
	return func(dst []float64, at int) {
		w, g := w[at:at+len(dst)], s.sum[from+at:]
		var h []float32
		if t.squares() {
			h = s.square[from+at:]
		}
		for i, v := range w {
			first, half := float64(float64(v)*float64(g[i])), 0.0
			if h != nil {
				half = float64(float64(v) * float64(v) * float64(h[i]) / 2)
			}
			switch t {
			case Mix:
				dst[i] = math.Abs(first - half)
			case First:
				dst[i] = math.Abs(first)
			case Second:
				dst[i] = half
			case Vector:
				dst[i] = first
			}
		}
	}
}
