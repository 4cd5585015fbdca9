//go:build amd64 && !noasm

package num

import (
	"fmt"
	"testing"
)

// Gradients and statistics of attention under every set of kernels: right with each, and the same bits with both in assembly.
func TestAttentionBackLevels(t *testing.T) {
	for l := levelGeneric; l < detect(); l++ {
		atLevel(l, func() {
			t.Run(fmt.Sprint("back/", l), TestAttentionBackAgainstReference)
			t.Run(fmt.Sprint("stats/", l), TestAttentionStatsAgainstReference)
		})
	}
	if detect() < levelAVX512 {
		return
	}
	for _, mask := range attnMasks {
		h := randomHead(3, 333, 40, 1)
		h.Sink, h.Recent = mask[0], mask[1]
		g := randomGrad(4, h, 2)
		const n = 333 * 40
		var out [2][]float32
		for l := range out {
			out[l] = make([]float32, 3*n)
			atLevel(levelAVX2+l, func() { AttentionBack(out[l], 40, out[l][n:], out[l][2*n:], 40, h, g, false) })
		}
		same(t, fmt.Sprint("gradients ", mask), out[0], out[1])
	}
}
