//go:build amd64 && !noasm

package num

import (
	"fmt"
	"testing"
)

// Eigenproblems under every set of kernels: right with each, and the same bits with both in assembly.
func TestSymEigenLevels(t *testing.T) {
	for l := levelGeneric; l < detect(); l++ {
		atLevel(l, func() {
			t.Run(fmt.Sprint("symv/", l), TestSymv)
			t.Run(fmt.Sprint("eigen/", l), TestSymEigen)
		})
	}
	if detect() < levelAVX512 {
		return
	}
	const n = 301
	var out [2][]float64
	for l := range out {
		out[l] = append(symmetricRandom(n), make([]float64, n)...)
		atLevel(levelAVX2+l, func() {
			if err := SymEigen(out[l][n*n:], out[l], n, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	same(t, "vectors and values", out[0], out[1])
}

// FuzzSymv4 compares the kernel with plain Go and looks for values written past the columns it may touch.
func FuzzSymv4(f *testing.F) {
	for _, n := range []uint16{0, 1, 7, 8, 9, 31, 64, 200} {
		f.Add(uint64(n), n, uint8(n%5))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint16, pad uint8) {
		cols := int(n % 512)
		lda := cols + int(pad)
		rng := newRand(seed)
		x, a, y := randoms64(rng, cols), randoms64(rng, 3*lda+cols), randoms64(rng, cols+20)
		u := [4]float64(randoms64(rng, 4))
		for l := levelAVX2; l <= detect(); l++ {
			got, want := append([]float64(nil), y...), append([]float64(nil), y...)
			var sums, plain [4][8]float64
			atLevel(l, func() { symv4(got[10:10+cols], x, a, lda, &u, &sums) })
			symv4Generic(want[10:10+cols], x, a, lda, &u, &plain)
			closeTo(t, "y", got, want, 1e-13)
			same(t, "beside y", got[:10], y[:10])
			same(t, "behind y", got[10+cols&^7:], y[10+cols&^7:])
			for r := range 4 {
				closeTo(t, "sums", sums[r][:], plain[r][:], 1e-11)
			}
		}
	})
}
