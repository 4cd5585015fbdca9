package cpu

import (
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// AttnStatistics computes the statistics of attention, a query head per task.
func (d *Device) AttnStatistics(st *device.AttnStats, q, k, v, out, dout, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "AttnStatistics"
	checkShape(op, s, masks)
	alone(op, s)
	if s.T == 0 {
		return
	}
	qs, ks, ls := f32(op, q, s.T*s.H*s.K), f32(op, k, s.T*s.G*s.K), f32(op, lse, s.H*s.T)
	var vs, os, gs []float32
	if st.NeedsGradient() {
		vs, os, gs = f32(op, v, s.T*s.G*s.K), f32(op, out, s.T*s.H*s.K), f32(op, dout, s.T*s.H*s.K)
	}
	n := num.AttnBands(s.T, st.Width)
	d.For(s.H, func(h int) {
		g := num.AttnGrad{LSE: ls[h*s.T : (h+1)*s.T], LDO: s.H * s.K}
		if gs != nil {
			g.Out, g.DOut = os[h*s.K:], gs[h*s.K:]
		}
		num.AttentionStats(num.AttnStats{Width: st.Width,
			ColumnSums: part(st.ColumnSums, h, s.T), Blocks: part(st.Blocks, h, n*n), Bands: part(st.Bands, h, n),
			Rows: st.Rows, ArgMax: part(st.ArgMax, h, len(st.Rows)), Peak: part(st.Peak, h, len(st.Rows)), Sink: st.Sink,
			Influence: part(st.Influence, h, n), Drop: part(st.Drop, h, n), DropAbs: part(st.DropAbs, h, n),
		}, heads(qs, ks, vs, s, masks, h), g)
	})
}

// part returns the h-th n values of x, or nil where x is nil.
func part[T any](x []T, h, n int) []T {
	if x == nil {
		return nil
	}
	return x[h*n : (h+1)*n]
}
