package devicetest

import (
	"fmt"
	"math"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// attentionBack: the gradients of every shape and mask, with the parts of a group's query heads added up.
func (s *suite) attentionBack(t *testing.T) {
	for _, c := range append(attentionCases(), tileCases()...) {
		t.Run(fmt.Sprintf("T%d_H%d_G%d_K%d_%d", c.t, c.h, c.g, c.k, len(c.masks)), func(t *testing.T) {
			shape := device.AttnShape{T: c.t, H: c.h, G: c.g, K: c.k, Scale: float32(1 / math.Sqrt(float64(c.k)))}
			q, qs := s.buf(t, device.F32, values(c.t*c.h*c.k, 28))
			k, ks := s.buf(t, device.F32, values(c.t*c.g*c.k, 29))
			v, vs := s.buf(t, device.F32, values(c.t*c.g*c.k, 30))
			dout, grads := s.buf(t, device.F32, values(c.t*c.h*c.k, 31))
			out, lse := s.out(t, c.t*c.h*c.k), s.out(t, c.h*c.t)
			dq, dk, dv := s.out(t, c.t*c.h*c.k), s.out(t, c.t*c.g*c.k), s.out(t, c.t*c.g*c.k)
			s.d.Attention(out, lse, q, k, v, shape, c.masks)
			s.d.AttentionBack(dq, dk, dv, dout, q, k, v, out, lse, shape, c.masks)
			wantQ, wantK, wantV := backReference(qs, ks, vs, grads, shape, c.masks)
			s.nearAttention(t, "dq", s.result(t, dq, len(wantQ)), wantQ, 3e-5)
			s.nearAttention(t, "dk", s.result(t, dk, len(wantK)), wantK, 3e-5)
			s.nearAttention(t, "dv", s.result(t, dv, len(wantV)), wantV, 3e-5)
		})
	}
}

// backReference computes the gradients in float64, head by head.
func backReference(q, k, v, dout []float32, s device.AttnShape, masks []device.Mask) (dq, dk, dv []float64) {
	dq, dk, dv = make([]float64, s.T*s.H*s.K), make([]float64, s.T*s.G*s.K), make([]float64, s.T*s.G*s.K)
	for h := range s.H {
		head := referenceHead(q, k, v, s, masks, h)
		g := h / (s.H / s.G)
		hq, hk, hv := make([]float64, s.T*s.K), make([]float64, s.T*s.K), make([]float64, s.T*s.K)
		num.AttentionBackReference(hq, hk, hv, head, num.AttnGrad{DOut: dout[h*s.K:], LDO: s.H * s.K}, nil)
		for i := range s.T {
			for c := range s.K {
				dq[(i*s.H+h)*s.K+c] = hq[i*s.K+c]
				dk[(i*s.G+g)*s.K+c] += hk[i*s.K+c]
				dv[(i*s.G+g)*s.K+c] += hv[i*s.K+c]
			}
		}
	}
	return dq, dk, dv
}

// referenceHead returns query head h of a whole tensor.
func referenceHead(q, k, v []float32, s device.AttnShape, masks []device.Mask, h int) num.AttnHead {
	g := h / (s.H / s.G)
	head := num.AttnHead{Q: q[h*s.K:], K: k[g*s.K:], V: v[g*s.K:], LDQ: s.H * s.K, LDK: s.G * s.K, LDV: s.G * s.K, T: s.T, Dim: s.K,
		Scale: s.Scale}
	if masks != nil {
		head.Sink, head.Recent = masks[g].Sink, masks[g].Recent
	}
	return head
}
