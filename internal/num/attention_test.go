package num

import (
	"fmt"
	"testing"
)

func randomHead(seed uint64, t, dim, pad int) AttnHead {
	rng := newRand(seed)
	ld := dim + pad
	return AttnHead{Q: randoms(rng, t*ld), K: randoms(rng, t*ld), V: randoms(rng, t*ld), LDQ: ld, LDK: ld, LDV: ld, T: t, Dim: dim, Scale: 0.3}
}

var attnMasks = [][2]int{{0, 0}, {0, 1}, {0, 7}, {4, 16}, {1, 130}, {140, 3}, {5, 1000}}

func TestAttentionAgainstReference(t *testing.T) {
	for _, s := range [][2]int{{0, 8}, {1, 8}, {2, 1}, {33, 16}, {128, 64}, {169, 33}, {400, 24}} {
		for _, m := range attnMasks {
			h := randomHead(7, s[0], s[1], 5)
			h.Sink, h.Recent = m[0], m[1]
			t.Run(fmt.Sprint(s, m), func(t *testing.T) {
				out, lse, sums := make([]float64, h.T*h.Dim), make([]float64, h.T), make([]float64, h.T)
				AttentionReference(out, lse, sums, h)
				got, ok := guarded(t, make([]float32, h.T*h.Dim))
				gotLSE, gotSums := make([]float32, h.T), make([]float32, h.T)
				AttentionHead(got, h.Dim, gotLSE, h, 0, h.T)
				ok()
				closeTo(t, "out", got, out, 2e-6)
				closeTo(t, "lse", gotLSE, lse, 2e-6)
				AttentionColumnSums(gotSums, gotLSE, h, 0, h.T)
				closeTo(t, "sums", gotSums, sums, 1e-5)

				parts := make([]float32, h.T*h.Dim)
				partSums := make([]float32, h.T)
				for lo := 0; lo < h.T; lo += 45 {
					AttentionHead(parts, h.Dim, nil, h, lo, min(lo+45, h.T))
					AttentionColumnSums(partSums, gotLSE, h, lo, min(lo+45, h.T))
				}
				same(t, "parts", parts, got)
				same(t, "sums of parts", partSums, gotSums)
			})
		}
	}
}

// A row must have the same bits whatever follows it.
func TestAttentionPrefix(t *testing.T) {
	h := randomHead(8, 300, 32, 0)
	long, short := make([]float32, 300*32), make([]float32, 300*32)
	AttentionHead(long, 32, nil, h, 0, 300)
	h.T = 211
	AttentionHead(short, 32, nil, h, 0, 211)
	same(t, "prefix", short[:211*32], long[:211*32])
}
