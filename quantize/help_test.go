package quantize

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
)

// random returns n normal values with a few outliers, as weights have them.
func random(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 17))
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(r.NormFloat64() * 0.02)
		if r.IntN(100) == 0 {
			w[i] *= 4
		}
	}
	return w
}

// correlated returns the Hessian Σ x xᵀ of tokens random inputs whose entries depend on each other through a random
// mixing of few sources, plus noise.
func correlated(seed uint64, n, tokens int) []float64 {
	r := rand.New(rand.NewPCG(seed, 23))
	sources := max(1, n/8)
	mix := make([]float64, n*sources)
	for i := range mix {
		mix[i] = r.NormFloat64()
	}
	h, x, z := make([]float64, n*n), make([]float64, n), make([]float64, sources)
	for range tokens {
		for i := range z {
			z[i] = r.NormFloat64()
		}
		for i := range x {
			x[i] = 0.3 * r.NormFloat64()
			for j, v := range z {
				x[i] += mix[i*sources+j] * v
			}
		}
		for i := range x {
			for j := range x {
				h[i*n+j] += x[i] * x[j]
			}
		}
	}
	return h
}

// outputError returns tr(E·H·Eᵀ) for E = w - q.
func outputError(w, q []float32, h []float64, out, n int) float64 {
	var sum float64
	e := make([]float64, n)
	for r := range out {
		for i := range e {
			e[i] = float64(w[r*n+i]) - float64(q[r*n+i])
		}
		for i := range n {
			var s float64
			for j := range n {
				s += h[max(i, j)*n+min(i, j)] * e[j]
			}
			sum += e[i] * s
		}
	}
	return sum
}

func dense(m *Matrix) []float32 {
	q := make([]float32, m.Out*m.In)
	m.Dequantize(q, nil)
	return q
}

func squared(w, q []float32) float64 {
	var s float64
	for i := range w {
		d := float64(w[i]) - float64(q[i])
		s += d * d
	}
	return s
}

// threads is a Par on k goroutines that take bodies in no fixed order.
func threads(k int) Par {
	return func(n int, body func(i int)) {
		var wg sync.WaitGroup
		for t := range k {
			wg.Go(func() {
				for i := n - 1 - t; i >= 0; i -= k {
					body(i)
				}
			})
		}
		wg.Wait()
	}
}

func mustFinite(t *testing.T, v []float32) {
	t.Helper()
	for i, x := range v {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			t.Fatalf("value %d is %v", i, x)
		}
	}
}
