package cpu

import (
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// AttentionBack computes the gradients of attention. A task is a KV head where these alone keep the threads busy, with its
// query heads one after the other; else a query head, and all but the first of a group leave their part of dk and dv in
// 2*T*K values of scratch, which join in order afterwards. Both add the same numbers in the same order.
func (d *Device) AttentionBack(dq, dk, dv, dout, q, k, v, out, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "AttentionBack"
	checkShape(op, s, masks)
	if s.T == 0 {
		return
	}
	qs, ks, vs := f32(op, q, s.T*s.H*s.K), f32(op, k, s.T*s.G*s.K), f32(op, v, s.T*s.G*s.K)
	gq, gk, gv := f32(op, dq, s.T*s.H*s.K), f32(op, dk, s.T*s.G*s.K), f32(op, dv, s.T*s.G*s.K)
	os, gs, ls := f32(op, out, s.T*s.H*s.K), f32(op, dout, s.T*s.H*s.K), f32(op, lse, s.H*s.T)
	back := func(h int, gk, gv []float32, ld int, add bool) {
		g := num.AttnGrad{Out: os[h*s.K:], DOut: gs[h*s.K:], LSE: ls[h*s.T : (h+1)*s.T], LDO: s.H * s.K}
		num.AttentionBack(gq[h*s.K:], s.H*s.K, gk, gv, ld, heads(qs, ks, vs, s, masks, h), g, add)
	}
	group, ld := s.H/s.G, s.G*s.K
	if group == 1 || s.G%d.threads == 0 || s.G >= 4*d.threads {
		d.For(s.G, func(g int) {
			for h := g * group; h < (g+1)*group; h++ {
				back(h, gk[g*s.K:], gv[g*s.K:], ld, h > g*group)
			}
		})
		return
	}
	part := s.T * s.K
	parts := make([]float32, 2*part*(s.H-s.G))
	at := func(h int) []float32 { return parts[2*part*(h-h/group-1):][:2*part] } // for h that is not first of its group
	d.For(s.H, func(h int) {
		if g := h / group; h%group == 0 {
			back(h, gk[g*s.K:], gv[g*s.K:], ld, false)
		} else {
			back(h, at(h), at(h)[part:], s.K, false)
		}
	})
	d.rows(s.T, 2*s.H*s.K, func(lo, hi int) {
		for h := range s.H {
			for i := lo; i < hi && h%group != 0; i++ {
				num.Add(gk[i*ld+h/group*s.K:], at(h)[i*s.K:][:s.K])
				num.Add(gv[i*ld+h/group*s.K:], at(h)[part+i*s.K:][:s.K])
			}
		}
	})
}
