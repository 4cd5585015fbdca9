package num

import (
	"fmt"
	"testing"
)

func TestSymv(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 11, 12, 13, 30, 100, 257, 600} {
		rng := newRand(uint64(n))
		lda := n + 3
		a, x := randoms64(rng, n*lda), randoms64(rng, n)
		want, got, parts := make([]float64, n), randoms64(rng, n), randoms64(rng, 8*n)
		for i := range n {
			for j := range n {
				want[i] += a[min(i, j)*lda+max(i, j)] * x[j]
			}
		}
		symv(got, a, lda, x, parts, workers(2))
		closeTo(t, fmt.Sprint(n), got, want, 1e-13*float64(n+1))
		again := make([]float64, n)
		symv(again, a, lda, x, parts, nil)
		same(t, fmt.Sprint("serially ", n), again, got)
	}
}
