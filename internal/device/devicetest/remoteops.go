package devicetest

import "modelpress/internal/device"

// The operations of a Remote are those of the device behind it, on its buffers.

func (r *Remote) Gather(y, table device.Buf, ids []int32, d int) {
	r.run("Gather", len(ids))
	r.Device.Gather(in(y), in(table), ids, d)
}

func (r *Remote) MatMulNT(y, x, w device.Buf, m, n, kd int, beta float32) {
	r.run("MatMulNT", 0)
	r.Device.MatMulNT(in(y), in(x), in(w), m, n, kd, beta)
}

func (r *Remote) MatMulNN(y, x, w device.Buf, m, n, kd int, beta float32) {
	r.run("MatMulNN", 0)
	r.Device.MatMulNN(in(y), in(x), in(w), m, n, kd, beta)
}

func (r *Remote) AddBias(y, bias device.Buf, rows, n int) {
	r.run("AddBias", 0)
	r.Device.AddBias(in(y), in(bias), rows, n)
}

func (r *Remote) Add(y, x device.Buf, n int) {
	r.run("Add", 0)
	r.Device.Add(in(y), in(x), n)
}

func (r *Remote) MatMulTN(w, y, x device.Buf, m, n, kd int, beta float32) {
	r.run("MatMulTN", 0)
	r.Device.MatMulTN(in(w), in(y), in(x), m, n, kd, beta)
}

func (r *Remote) RMSNorm(y, x, w device.Buf, rows, d int, over, eps float32) {
	r.run("RMSNorm", 0)
	r.Device.RMSNorm(in(y), in(x), in(w), rows, d, over, eps)
}

func (r *Remote) LayerNorm(y, x, w, b device.Buf, rows, d int, over, eps float32) {
	r.run("LayerNorm", 0)
	r.Device.LayerNorm(in(y), in(x), in(w), in(b), rows, d, over, eps)
}

func (r *Remote) RMSNormBack(dx, dy, x, w device.Buf, rows, d int, over, eps float32) {
	r.run("RMSNormBack", 0)
	r.Device.RMSNormBack(in(dx), in(dy), in(x), in(w), rows, d, over, eps)
}

func (r *Remote) LayerNormBack(dx, dy, x, w device.Buf, rows, d int, over, eps float32) {
	r.run("LayerNormBack", 0)
	r.Device.LayerNormBack(in(dx), in(dy), in(x), in(w), rows, d, over, eps)
}

func (r *Remote) RMSNormGrad(dw, dy, x device.Buf, rows, d int, over, eps float32) {
	r.run("RMSNormGrad", 0)
	r.Device.RMSNormGrad(in(dw), in(dy), in(x), rows, d, over, eps)
}

func (r *Remote) LayerNormGrad(dw, db, dy, x device.Buf, rows, d int, over, eps float32) {
	r.run("LayerNormGrad", 0)
	r.Device.LayerNormGrad(in(dw), in(db), in(dy), in(x), rows, d, over, eps)
}

func (r *Remote) ColumnDots(dst []float64, a, b device.Buf, rows, n int) {
	r.run("ColumnDots", 0)
	r.Device.ColumnDots(dst, in(a), in(b), rows, n)
}

func (r *Remote) ScaleColumns(y, x device.Buf, z []float32, rows, n int) {
	r.run("ScaleColumns", len(z))
	r.Device.ScaleColumns(in(y), in(x), z, rows, n)
}

func (r *Remote) RoPE(x device.Buf, t, heads, k int, cos, sin []float32) {
	r.run("RoPE", len(cos)+len(sin))
	r.Device.RoPE(in(x), t, heads, k, cos, sin)
}

func (r *Remote) Attention(out, lse, q, k, v device.Buf, s device.AttnShape, masks []device.Mask) {
	r.run("Attention", 4*len(masks))
	r.Device.Attention(in(out), in(lse), in(q), in(k), in(v), s, masks)
}

func (r *Remote) AttnColumnSums(dst, q, k, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	r.run("AttnColumnSums", 4*len(masks))
	r.Device.AttnColumnSums(in(dst), in(q), in(k), in(lse), s, masks)
}

func (r *Remote) AttentionBack(dq, dk, dv, dout, q, k, v, out, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	r.run("AttentionBack", 4*len(masks))
	r.Device.AttentionBack(in(dq), in(dk), in(dv), in(dout), in(q), in(k), in(v), in(out), in(lse), s, masks)
}

func (r *Remote) AttnStatistics(st *device.AttnStats, q, k, v, out, dout, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	r.run("AttnStatistics", 4*len(masks))
	r.Device.AttnStatistics(st, in(q), in(k), in(v), in(out), in(dout), in(lse), s, masks)
}

func (r *Remote) MixHeads(y, a, b device.Buf, alpha []float32, s device.AttnShape) {
	r.run("MixHeads", len(alpha))
	r.Device.MixHeads(in(y), in(a), in(b), alpha, s)
}

func (r *Remote) MixSlopes(dst []float64, dy, a, b device.Buf, s device.AttnShape) {
	r.run("MixSlopes", 0)
	r.Device.MixSlopes(dst, in(dy), in(a), in(b), s)
}

func (r *Remote) SiLUMul(y, gate, up device.Buf, n int) {
	r.run("SiLUMul", 0)
	r.Device.SiLUMul(in(y), in(gate), in(up), n)
}

func (r *Remote) SiLUMulBack(dgate, dup, dy, gate, up device.Buf, n int) {
	r.run("SiLUMulBack", 0)
	r.Device.SiLUMulBack(in(dgate), in(dup), in(dy), in(gate), in(up), n)
}

func (r *Remote) GELU(y, x device.Buf, n int, tanh bool) {
	r.run("GELU", 0)
	r.Device.GELU(in(y), in(x), n, tanh)
}

func (r *Remote) GELUBack(dx, dy, x device.Buf, n int, tanh bool) {
	r.run("GELUBack", 0)
	r.Device.GELUBack(in(dx), in(dy), in(x), n, tanh)
}

func (r *Remote) Zero(b device.Buf, off, n int) {
	r.run("Zero", 0)
	r.Device.Zero(in(b), off, n)
}

func (r *Remote) Copy(dst device.Buf, off int, src device.Buf, from, n int) {
	r.run("Copy", 0)
	r.Device.Copy(in(dst), off, in(src), from, n)
}

// Rotate is RoPE by tables in the memory of the device.
func (r *Remote) Rotate(x device.Buf, t, heads, k int, cos, sin device.Buf) {
	r.run("Rotate", 0)
	r.Device.RoPE(in(x), t, heads, k, r.Device.Host(in(cos)), r.Device.Host(in(sin)))
}
