package num

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
)

// workers returns a Par on n goroutines that hand out indices from a shared counter.
func workers(n int) Par {
	return func(count int, body func(i int)) {
		var left sync.WaitGroup
		ch := make(chan int, count)
		for i := range count {
			ch <- i
		}
		close(ch)
		for range n {
			left.Add(1)
			go func() {
				defer left.Done()
				for i := range ch {
					body(i)
				}
			}()
		}
		left.Wait()
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func randoms(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func randoms64(rng *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.NormFloat64()
	}
	return x
}

// guarded returns a copy of x that lies between NaN values, and a function that fails the test if they changed.
func guarded(t testing.TB, x []float32) ([]float32, func()) {
	t.Helper()
	const band = 40
	all := make([]float32, len(x)+2*band)
	for i := range all {
		all[i] = float32(math.NaN())
	}
	copy(all[band:], x)
	return all[band : band+len(x) : band+len(x)], func() {
		t.Helper()
		for i, v := range all {
			if (i < band || i >= band+len(x)) && v == v {
				t.Fatalf("wrote outside of the slice, at %d of %d", i-band, len(x))
			}
		}
	}
}

// closeTo fails the test unless every got is within tol*(1+|want|) of want, or the same.
func closeTo[A, B float](t *testing.T, what string, got []A, want []B, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		g, w := float64(got[i]), float64(want[i])
		if g != w && !(math.IsNaN(g) && math.IsNaN(w)) && !(math.Abs(g-w) <= tol*(1+math.Abs(w))) {
			t.Fatalf("%s: [%d] = %v, want %v", what, i, g, w)
		}
	}
}

// same fails the test unless the bits agree.
func same[T float](t *testing.T, what string, got, want []T) {
	t.Helper()
	for i := range want {
		if math.Float64bits(float64(got[i])) != math.Float64bits(float64(want[i])) {
			t.Fatalf("%s: [%d] = %v, want %v", what, i, got[i], want[i])
		}
	}
}
