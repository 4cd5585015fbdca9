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
