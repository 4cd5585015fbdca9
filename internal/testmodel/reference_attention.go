package testmodel

import (
	"fmt"
	"math"
)

// attentionShape is what one call of attention computes: T positions, H query heads on G KV heads of width K, and how far back
// a query sees (its own position included, 0 for all).
type attentionShape struct {
	t, h, g, k, window int
}

// regroup takes the number of KV heads from what a hook returned.
func (s *attentionShape) regroup(q, k, v []float64) error {
	g := len(k) / (s.t * s.k)
	switch {
	case len(q) != s.t*s.h*s.k:
		return fmt.Errorf("hook Heads returned %d values of q where %d are needed", len(q), s.t*s.h*s.k)
	case len(k) != len(v):
		return fmt.Errorf("hook Heads returned %d values of k and %d of v", len(k), len(v))
	case g == 0 || len(k) != s.t*g*s.k:
		return fmt.Errorf("hook Heads returned %d values of k, no multiple of T*K = %d", len(k), s.t*s.k)
	case s.h%g != 0:
		return fmt.Errorf("hook Heads returned %d KV heads, which do not divide %d query heads", g, s.h)
	}
	s.g = g
	return nil
}

// attend returns softmax(q·kᵀ/sqrt(K))·v under the causal mask and the window, [T, H*K], one row of scores at a time. Query
// head h reads KV head h/(H/G).
func (s *attentionShape) attend(q, k, v []float64) []float64 {
	out, row := make([]float64, s.t*s.h*s.k), make([]float64, s.t)
	for h := range s.h {
		g := h / (s.h / s.g)
		for i := range s.t {
			first := 0
			if s.window > 0 {
				first = max(0, i-s.window+1)
			}
			at := (i*s.h + h) * s.k
			p := row[:i+1-first]
			for j := range p {
				from := ((first+j)*s.g + g) * s.k
				p[j] = dot(q[at:at+s.k], k[from:from+s.k]) / math.Sqrt(float64(s.k))
			}
			softmax(p)
			y := out[at : at+s.k]
			for j, w := range p {
				from := ((first+j)*s.g + g) * s.k
				for c, x := range v[from : from+s.k] {
					y[c] += w * x
				}
			}
		}
	}
	return out
}

func dot(x, y []float64) float64 {
	sum := 0.0
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

// softmax replaces scores by their probabilities. The largest score is taken off first, so that none overflows.
func softmax(p []float64) {
	top, sum := math.Inf(-1), 0.0
	for _, v := range p {
		top = max(top, v)
	}
	for j, v := range p {
		p[j] = math.Exp(v - top)
		sum += p[j]
	}
	for j := range p {
		p[j] /= sum
	}
}
