package cpu

import (
	"fmt"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// Attention and its column sums are cut into tasks of one head and these many rows or keys. The kernels give the same
// bits however the rows are cut; the keys must be cut at multiples of num's key tile.
const (
	rowsPerTask = 336
	keysPerTask = 512
)

// heads returns the view of query head h that the kernels take; v may be nil.
func heads(q, k, v []float32, s device.AttnShape, masks []device.Mask, h int) num.AttnHead {
	g := h / (s.H / s.G)
	a := num.AttnHead{Q: q[h*s.K:], K: k[g*s.K:], LDQ: s.H * s.K, LDK: s.G * s.K, LDV: s.G * s.K, T: s.T, Dim: s.K,
		Scale: s.Scale}
	if v != nil {
		a.V = v[g*s.K:]
	}
	if masks != nil && !masks[g].Full() {
		a.Sink, a.Recent = masks[g].Sink, masks[g].Recent
	}
	return a
}

func checkShape(op string, s device.AttnShape, masks []device.Mask) {
	if s.G <= 0 || s.H%s.G != 0 || masks != nil && len(masks) != s.G {
		panic(fmt.Sprintf("cpu: %s: %d query heads, %d KV heads, %d masks", op, s.H, s.G, len(masks)))
	}
}

// alone refuses a shape of several sequences.
func alone(op string, s device.AttnShape) {
	if s.Sequences() > 1 {
		panic(fmt.Sprintf("cpu: %s: %d sequences at once", op, s.Batch))
	}
}

// Attention computes causal attention of every head under the masks of the KV heads; lse may be nil.
func (d *Device) Attention(out, lse, q, k, v device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "Attention"
	checkShape(op, s, masks)
	if s.T == 0 {
		return
	}
	n := s.Sequences()
	o, qs := f32(op, out, n*s.T*s.H*s.K), f32(op, q, n*s.T*s.H*s.K)
	ks, vs := f32(op, k, n*s.T*s.G*s.K), f32(op, v, n*s.T*s.G*s.K)
	var l []float32
	if lse != nil {
		l = f32(op, lse, n*s.H*s.T)
	}
	blocks := (s.T + rowsPerTask - 1) / rowsPerTask
	d.For(n*s.H*blocks, func(i int) {
		// Late rows see the most keys: they start first, so that no thread ends up alone with one.
		h, w, b := i%s.H, i/s.H%n, blocks-1-i/s.H/n
		hq, hk := w*s.T*s.H*s.K, w*s.T*s.G*s.K
		var row []float32
		if l != nil {
			row = l[(w*s.H+h)*s.T:][:s.T]
		}
		num.AttentionHead(o[hq+h*s.K:], s.H*s.K, row, heads(qs[hq:], ks[hk:], vs[hk:], s, masks, h), b*rowsPerTask, min(s.T, (b+1)*rowsPerTask))
	})
}

// AttnColumnSums computes dst[h,j] = Σ_i softmax(...)[h,i,j] from the lse that Attention gave under the same masks.
func (d *Device) AttnColumnSums(dst, q, k, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "AttnColumnSums"
	checkShape(op, s, masks)
	alone(op, s)
	if s.T == 0 {
		return
	}
	out, l := f32(op, dst, s.H*s.T), f32(op, lse, s.H*s.T)
	qs, ks := f32(op, q, s.T*s.H*s.K), f32(op, k, s.T*s.G*s.K)
	blocks := (s.T + keysPerTask - 1) / keysPerTask
	d.For(s.H*blocks, func(i int) {
		h, b := i%s.H, i/s.H
		num.AttentionColumnSums(out[h*s.T:(h+1)*s.T], l[h*s.T:(h+1)*s.T], heads(qs, ks, nil, s, masks, h),
			b*keysPerTask, min(s.T, (b+1)*keysPerTask))
	})
}
