package calib

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// twoThreads runs bodies on two goroutines.
func twoThreads(n int, body func(i int)) {
	var wg sync.WaitGroup
	for part := range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := n - 1 - part; i >= 0; i -= 2 {
				body(i)
			}
		}()
	}
	wg.Wait()
}

func normal(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 5))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// TestGramAgainstLoop compares with the double loop in float64, over several calls, with and without weights.
func TestGramAgainstLoop(t *testing.T) {
	for _, n := range []int{1, 3, 17, 64, 300} {
		g, want, rows := NewGram(n), make([]float64, n*n), 0
		for call, m := range []int{1, 33, 0, 1100} {
			x, w := normal(uint64(call), m*n), normal(9, m)
			if call%2 == 0 {
				w = nil
			}
			g.Add(x, m, w, nil)
			rows += m
			for r := range m {
				s := 1.0
				if w != nil {
					s = float64(w[r])
				}
				for i := range n {
					for j := range n {
						want[i*n+j] += s * float64(x[r*n+i]) * float64(x[r*n+j])
					}
				}
			}
		}
		if g.Tokens != float64(rows) || !g.Finite() {
			t.Errorf("tokens %g", g.Tokens)
		}
		for i, v := range g.Hessian() {
			if j := i % n; j <= i/n && math.Abs(v*float64(rows)/2-want[i]) > 2e-6*float64(rows) {
				t.Fatalf("n %d, element %d: %g, want %g", n, i, v*float64(rows)/2, want[i])
			}
		}
	}
	if h := NewGram(2).Hessian(); !slices.Equal(h, make([]float64, 4)) {
		t.Error(h)
	}
}

// TestGramRoundTrip restores the bits, and the sum goes on as if nothing had happened, at any number of threads.
func TestGramRoundTrip(t *testing.T) {
	const n = 301
	a, b := NewGram(n), NewGram(n)
	a.Add(normal(1, 50*n), 50, nil, nil)
	b.Add(normal(1, 50*n), 50, nil, twoThreads)
	raw, err := b.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var c Gram
	if err := c.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	a.Add(normal(2, 70*n), 70, normal(3, 70), nil)
	c.Add(normal(2, 70*n), 70, normal(3, 70), twoThreads)
	if c.N != n || c.Tokens != 120 || !slices.Equal(a.H, c.H) {
		t.Error("sums differ")
	}
	for _, bad := range [][]byte{nil, raw[:15], raw[:len(raw)-1], append(slices.Clone(raw), 0), {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if err := c.UnmarshalBinary(bad); err == nil {
			t.Errorf("%d bytes pass", len(bad))
		}
	}
	a.H[5*n] = math.NaN()
	if a.Finite() {
		t.Error("NaN is finite")
	}
}
