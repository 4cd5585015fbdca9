package cpu

import (
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// AttentionBack computes the gradients of attention. A task is a KV head of a sequence where these alone keep the threads busy, with its
// query heads one after the other; else a query head, and all but the first of a group leave their part of dk and dv in
// 2*T*K values of scratch, which join in order afterwards. Both add the same numbers in the same order.
func (d *Device) AttentionBack(dq, dk, dv, dout, q, k, v, out, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "AttentionBack"
	checkShape(op, s, masks)
	if s.T == 0 {
		return
	}
	n := s.Sequences()
	hq, hk := s.T*s.H*s.K, s.T*s.G*s.K
	qs, ks, vs := f32(op, q, n*hq), f32(op, k, n*hk), f32(op, v, n*hk)
	gq, gk, gv := f32(op, dq, n*hq), f32(op, dk, n*hk), f32(op, dv, n*hk)
	os, gs, ls := f32(op, out, n*hq), f32(op, dout, n*hq), f32(op, lse, n*s.H*s.T)
	b := &headsBack{d, s, masks, qs, ks, vs, gq, gk, gv, os, gs, ls}
	group := s.H / s.G
	if group == 1 || n*s.G%d.threads == 0 || n*s.G >= 4*d.threads {
		d.For(n*s.G, func(i int) {
			w, g := b.sequence(i/s.G), i%s.G
			for h := g * group; h < (g+1)*group; h++ {
				w.head(h, w.gk[g*s.K:], w.gv[g*s.K:], s.G*s.K, h > g*group)
			}
		})
		return
	}
	for i := range n {
		b.sequence(i).apart()
	}
}

// headsBack is the attention of some sequences and the gradients by it.
type headsBack struct {
	d                   *Device
	s                   device.AttnShape
	masks               []device.Mask
	q, k, v, gq, gk, gv []float32
	out, dout, lse      []float32
}

// sequence returns sequence i and those after it.
func (b *headsBack) sequence(i int) *headsBack {
	c, s := *b, b.s
	hq, hk := i*s.T*s.H*s.K, i*s.T*s.G*s.K
	c.q, c.k, c.v, c.gq, c.gk, c.gv = b.q[hq:], b.k[hk:], b.v[hk:], b.gq[hq:], b.gk[hk:], b.gv[hk:]
	c.out, c.dout, c.lse = b.out[hq:], b.dout[hq:], b.lse[i*s.H*s.T:]
	return &c
}

// head computes the gradients of query head h of the first sequence, or adds those by keys and values.
func (b *headsBack) head(h int, gk, gv []float32, ld int, add bool) {
	s := b.s
	g := num.AttnGrad{Out: b.out[h*s.K:], DOut: b.dout[h*s.K:], LSE: b.lse[h*s.T : (h+1)*s.T], LDO: s.H * s.K}
	num.AttentionBack(b.gq[h*s.K:], s.H*s.K, gk, gv, ld, heads(b.q, b.k, b.v, s, b.masks, h), g, add)
}

// apart takes a task for each query head of the first sequence.
func (b *headsBack) apart() {
	s, d, gk, gv := b.s, b.d, b.gk, b.gv
	group, ld := s.H/s.G, s.G*s.K
	part := s.T * s.K
	parts := make([]float32, 2*part*(s.H-s.G))
	at := func(h int) []float32 { return parts[2*part*(h-h/group-1):][:2*part] } // for h that is not first of its group
	d.For(s.H, func(h int) {
		if g := h / group; h%group == 0 {
			b.head(h, gk[g*s.K:], gv[g*s.K:], ld, false)
		} else {
			b.head(h, at(h), at(h)[part:], s.K, false)
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
