package devicetest

import (
	"fmt"
	"math"
	"testing"

	"modelpress/internal/device"
)

// sequences: attention and its gradients over several sequences in one call are, bit for bit, those of each.
func (s *suite) sequences(t *testing.T) {
	for _, c := range attentionCases() {
		t.Run(fmt.Sprintf("T%d_H%d_G%d_K%d_%d", c.t, c.h, c.g, c.k, len(c.masks)), func(t *testing.T) {
			n := 3
			if c.t > 100 { // long enough as two, where the device is emulated
				n = 2
			}
			one := device.AttnShape{T: c.t, H: c.h, G: c.g, K: c.k, Scale: float32(1 / math.Sqrt(float64(c.k)))}
			all := one
			all.Batch = n
			hq, hk, hl := c.t*c.h*c.k, c.t*c.g*c.k, c.h*c.t
			in := [][]float32{values(n*hq, 38), values(n*hk, 39), values(n*hk, 40), values(n*hq, 41)}
			sizes := []int{hq, hk, hk, hq}
			outs := []int{hq, hl, hq, hk, hk}
			got := s.sequencesOf(t, in, outs, n, all, c.masks)
			for i := range n {
				var part [][]float32
				for j, v := range in {
					part = append(part, v[i*sizes[j]:(i+1)*sizes[j]])
				}
				for j, want := range s.sequencesOf(t, part, outs, 1, one, c.masks) {
					same(t, got[j][i*outs[j]:(i+1)*outs[j]], want)
				}
			}
		})
	}
}

// sequencesOf returns the output of attention, its lse, and the gradients by queries, keys and values, from these and the gradient by
// the output.
func (s *suite) sequencesOf(t *testing.T, in [][]float32, sizes []int, n int, shape device.AttnShape, masks []device.Mask) [][]float32 {
	var b, o []device.Buf
	for _, v := range in {
		x, _ := s.buf(t, device.F32, v)
		b = append(b, x)
	}
	for _, size := range sizes {
		o = append(o, s.out(t, n*size))
	}
	s.d.Attention(o[0], o[1], b[0], b[1], b[2], shape, masks)
	s.d.AttentionBack(o[2], o[3], o[4], b[3], b[0], b[1], b[2], o[0], o[1], shape, masks)
	var out [][]float32
	for i, size := range sizes {
		out = append(out, s.result(t, o[i], n*size))
	}
	return out
}
