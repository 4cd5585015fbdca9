package num

import (
	"errors"
	"fmt"
	"testing"
)

func TestSolve(t *testing.T) {
	for _, n := range []int{0, 1, 5, 32, 33, 70, 200} {
		for _, m := range []int{0, 1, 17, 300} {
			name := fmt.Sprintf("n=%d m=%d", n, m)
			a := positive(uint64(n), n)
			l := append([]float64(nil), a...)
			if err := Cholesky(l, n, nil); err != nil {
				t.Fatal(err)
			}
			x := randoms64(newRand(4), n*m)
			b := make([]float64, n*m)

			GemmNN64(b, m, l, n, x, m, n, m, n, 1, 0, nil)
			SolveLower(l, n, b, m, workers(2))
			closeTo(t, name+" L", b, x, 1e-8)

			GemmTN64(b, m, l, n, x, m, n, m, n, 1, 0, nil)
			SolveLowerT(l, n, b, m, workers(2))
			closeTo(t, name+" Lᵀ", b, x, 1e-8)

			GemmNN64(b, m, a, n, x, m, n, m, n, 1, 0, nil)
			if err := CholeskySolve(a, n, b, m, workers(2)); err != nil {
				t.Fatal(err)
			}
			closeTo(t, name+" A", b, x, 1e-7)
		}
	}
	b := []float64{7}
	if err := CholeskySolve([]float64{-1}, 1, b, 1, nil); !errors.Is(err, ErrNotPositiveDefinite) || b[0] != 7 {
		t.Errorf("indefinite: %v, b %v", err, b)
	}
}
