//go:build amd64 && !noasm

package num

import (
	"fmt"
	"slices"
	"testing"
)

// TestTrainingKernelBits: sums, slopes of SiLUMul and steps of AdamW have the bits of their plain loops at every level; of the slopes, of
// one over the level's own exponential.
func TestTrainingKernelBits(t *testing.T) {
	f := AdamWStep{LR: 3e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, GradScale: 0.7, Step: 3}.factors()
	for l := levelGeneric; l <= detect(); l++ {
		atLevel(l, func() {
			for n := range 140 {
				rng := newRand(uint64(n))
				a, b, c, d := randoms(rng, n), randoms(rng, n), randoms(rng, n), randoms(rng, n)
				for i := range d {
					d[i] *= d[i] // a mean square
				}
				p, m, v := slices.Clone(a), slices.Clone(c), slices.Clone(d)
				adamW(p, b, m, v, &f)
				q, o, w := slices.Clone(a), slices.Clone(c), slices.Clone(d)
				f.step(q, b, o, w)
				same(t, fmt.Sprint("AdamW ", l, n), append(append(p, m...), v...), append(append(q, o...), w...))

				x, y := slices.Clone(a), slices.Clone(a)
				Add(x, b)
				addGeneric(y, b)
				same(t, fmt.Sprint("Add ", l, n), x, y)

				e, gate, up := make([]float32, n), slices.Clone(b), slices.Clone(c)
				for i, g := range b {
					e[i] = -20 * g
					gate[i] = 20 * g
				}
				wantGate, wantUp := make([]float32, n), make([]float32, n)
				Exp32(e, e)
				for i, g := range gate {
					s := 1 / (1 + e[i])
					wantUp[i] = a[i] * float32(g*s)
					wantGate[i] = a[i] * up[i] * s * (1 + float32(g*(1-s)))
				}
				SiLUMulBack(gate, up, a, gate, up, n, nil) // in place
				same(t, fmt.Sprint("SiLUMulBack ", l, n), append(gate, up...), append(wantGate, wantUp...))
			}
		})
	}
}
