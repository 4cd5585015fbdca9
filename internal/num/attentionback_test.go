package num

import (
	"fmt"
	"math"
	"testing"
)

// randomGrad returns a gradient by the output of h, with what AttentionHead gives for it.
func randomGrad(seed uint64, h AttnHead, pad int) AttnGrad {
	g := AttnGrad{LDO: h.Dim + pad, LSE: make([]float32, h.T)}
	g.Out, g.DOut = make([]float32, h.T*g.LDO), randoms(newRand(seed), h.T*g.LDO)
	AttentionHead(g.Out, g.LDO, g.LSE, h, 0, h.T)
	return g
}

func TestAttentionBackAgainstReference(t *testing.T) {
	for _, s := range [][2]int{{0, 8}, {1, 8}, {2, 1}, {33, 16}, {85, 3}, {128, 64}, {169, 33}, {400, 24}} {
		for _, m := range attnMasks {
			h := randomHead(7, s[0], s[1], 5)
			h.Sink, h.Recent = m[0], m[1]
			g := randomGrad(9, h, 3)
			t.Run(fmt.Sprint(s, m), func(t *testing.T) {
				n := h.T * h.Dim
				var want [3][]float64
				var got [3][]float32
				var ok [3]func()
				for i := range want {
					want[i] = make([]float64, n)
					got[i], ok[i] = guarded(t, make([]float32, n))
				}
				AttentionBackReference(want[0], want[1], want[2], h, g, nil)
				AttentionBack(got[0], h.Dim, got[1], got[2], h.Dim, h, g, false)
				for i, name := range []string{"dQ", "dK", "dV"} {
					ok[i]()
					closeTo(t, name, got[i], want[i], 2e-5)
				}
				again := make([]float32, 3*n)
				AttentionBack(again, h.Dim, again[n:], again[2*n:], h.Dim, h, g, true)
				AttentionBack(again, h.Dim, again[n:], again[2*n:], h.Dim, h, g, true)
				for i := range n { // dQ is overwritten, dK and dV are added to
					if again[i] != got[0][i] || again[n+i] != 2*got[1][i] || again[2*n+i] != 2*got[2][i] {
						t.Fatalf("value %d when added: %v %v %v after %v %v %v", i, again[i], again[n+i], again[2*n+i], got[0][i], got[1][i], got[2][i])
					}
				}
			})
		}
	}
}

// The reference itself against central differences of a loss Σ DOut*out, at a step that float32 inputs can hold.
func TestAttentionBackReferenceAgainstDifferences(t *testing.T) {
	const n, dim, step = 9, 3, 1.0 / 512
	for _, m := range [][2]int{{0, 0}, {0, 1}, {1, 3}} {
		h := randomHead(3, n, dim, 0)
		h.Sink, h.Recent = m[0], m[1]
		for _, x := range [][]float32{h.Q, h.K, h.V} {
			for i := range x {
				x[i] = float32(math.Round(float64(x[i])*64) / 64)
			}
		}
		g := randomGrad(4, h, 0)
		loss := func() (s float64) {
			out := make([]float64, n*dim)
			AttentionReference(out, nil, nil, h)
			for i, v := range out {
				s += v * float64(g.DOut[i])
			}
			return s
		}
		grads := [3][]float64{make([]float64, n*dim), make([]float64, n*dim), make([]float64, n*dim)}
		AttentionBackReference(grads[0], grads[1], grads[2], h, g, nil)
		for w, x := range [][]float32{h.Q, h.K, h.V} {
			for i, old := range x {
				x[i] = old + step
				up := loss()
				x[i] = old - step
				slope := (up - loss()) / (2 * step)
				x[i] = old
				if math.Abs(slope-grads[w][i]) > 2e-5*(1+math.Abs(slope)) {
					t.Fatalf("mask %v, input %d [%d]: difference %v, gradient %v", m, w, i, slope, grads[w][i])
				}
			}
		}
	}
}

// What lies in the pooled scratch must not reach results.
func TestAttentionBackAfterOverflow(t *testing.T) {
	h := randomHead(5, 300, 24, 0)
	h.Sink, h.Recent = 4, 90
	g := randomGrad(6, h, 0)
	run := func() []float32 {
		all := make([]float32, 3*300*24)
		AttentionBack(all, 24, all[300*24:], all[2*300*24:], 24, h, g, false)
		return all
	}
	want := run()
	bad := randomHead(5, 300, 24, 0)
	for i := range bad.V {
		bad.V[i] = float32(math.Inf(1))
	}
	junk := make([]float32, 3*300*24)
	AttentionBack(junk, 24, junk[300*24:], junk[2*300*24:], 24, bad, g, false)
	same(t, "after overflow", run(), want)
}

func BenchmarkAttentionBack(b *testing.B) {
	for _, n := range []int{512, 2048} {
		for _, recent := range []int{0, 256} {
			h := randomHead(1, n, 64, 0)
			h.Sink, h.Recent = 16, recent
			g := randomGrad(2, h, 0)
			out := make([]float32, 3*n*64)
			b.Run(fmt.Sprintf("T=%d/recent=%d", n, recent), func(b *testing.B) {
				bench(b, 5*float64(n)*float64(n)*64, func() { AttentionBack(out, 64, out[n*64:], out[2*n*64:], 64, h, g, false) })
			})
		}
	}
}
