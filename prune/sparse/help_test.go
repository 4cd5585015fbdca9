package sparse

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"modelpress/formats"
)

// random returns n normal values with a few outliers, as weights have them, exact in store.
func random(seed uint64, n int, store formats.DType) []float32 {
	r, round := rand.New(rand.NewPCG(seed, 17)), rounder(store)
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(r.NormFloat64() * 0.02)
		if r.IntN(100) == 0 {
			w[i] *= 4
		}
		w[i] = round(w[i])
	}
	return w
}

// correlated returns the Hessian Σ x xᵀ of tokens random inputs whose entries depend on each other through a mixing of few
// sources, plus noise, and have sizes of their own. Inputs that are dead are always 0.
func correlated(seed uint64, n, tokens int, dead ...int) []float64 {
	r := rand.New(rand.NewPCG(seed, 23))
	sources := max(1, n/8)
	mix, size := make([]float64, n*sources), make([]float64, n)
	for i := range mix {
		mix[i] = r.NormFloat64()
	}
	for i := range size {
		size[i] = math.Exp(r.NormFloat64())
		if slices.Contains(dead, i) {
			size[i] = 0
		}
	}
	h, x, z := make([]float64, n*n), make([]float64, n), make([]float64, sources)
	for range tokens {
		for i := range z {
			z[i] = r.NormFloat64()
		}
		for i := range x {
			x[i] = r.NormFloat64()
			for j, v := range z {
				x[i] += mix[i*sources+j] * v
			}
			x[i] *= size[i]
		}
		for i := range x {
			for j := range x {
				h[i*n+j] += x[i] * x[j]
			}
		}
	}
	return h
}

// diagonal is the Hessian of inputs that do not depend on each other.
func diagonal(d []float64) []float64 {
	h := make([]float64, len(d)*len(d))
	for i, v := range d {
		h[i*len(d)+i] = v
	}
	return h
}

func diag(h []float64, n int) []float64 {
	d := make([]float64, n)
	for i := range d {
		d[i] = h[i*n+i]
	}
	return d
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

// invert returns (h + damp)⁻¹ by Gauss-Jordan elimination, from the lower half of h. Inputs that were always 0 get the mean of
// the others' moments.
func invert(h []float64, n int, damp float64) []float64 {
	a, inv := make([]float64, n*n), make([]float64, n*n)
	var sum, live float64
	for i := range n {
		if h[i*n+i] > 0 {
			sum, live = sum+h[i*n+i], live+1
		}
	}
	for i := range n {
		for j := range n {
			a[i*n+j] = h[max(i, j)*n+min(i, j)]
		}
		if a[i*n+i] == 0 {
			a[i*n+i] = sum / live
		}
		a[i*n+i] += damp
		inv[i*n+i] = 1
	}
	for i := range n {
		p := a[i*n+i]
		for j := range n {
			a[i*n+j] /= p
			inv[i*n+j] /= p
		}
		for r := range n {
			if f := a[r*n+i]; r != i && f != 0 {
				for j := range n {
					a[r*n+j] -= f * a[i*n+j]
					inv[r*n+j] -= f * inv[i*n+j]
				}
			}
		}
	}
	return inv
}

// threads runs bodies on k goroutines, in an order that is not that of their numbers.
func threads(k int) Par {
	return func(n int, body func(i int)) {
		var wg sync.WaitGroup
		for part := range k {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := n - 1 - part; i >= 0; i -= k {
					body(i)
				}
			}()
		}
		wg.Wait()
	}
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// mustHold checks that q has the pattern, and exactly as many zeros as asked for.
func mustHold(t *testing.T, what string, q []float32, out, in int, s Scheme) {
	t.Helper()
	zeros, err := s.Holds(q, out, in)
	if err != nil || zeros != s.Zeros(out, in) {
		t.Errorf("%s: %d zeros, want %d; %v", what, zeros, s.Zeros(out, in), err)
	}
}
