//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// keyTiles and queryTiles are those of the kernels attnback_keys_kp_terms and attnback_queries_kp_terms.
var (
	keyTiles = map[width]tiling{
		{64, 1}: {2, 4, 1, 32, 2}, {64, 3}: {1, 4, 1, 16, 2},
		{128, 1}: {1, 4, 1, 64, 2}, {128, 3}: {1, 4, 2, 32, 1},
		{256, 1}: {1, 4, 2, 32, 2}, {256, 3}: {1, 2, 2, 16, 1},
	}
	queryTiles = map[width]tiling{
		{64, 1}: {2, 4, 1, 64, 2}, {64, 3}: {1, 4, 1, 32, 2},
		{128, 1}: {2, 4, 1, 32, 2}, {128, 3}: {1, 2, 1, 32, 1},
		{256, 1}: {1, 4, 1, 32, 1}, {256, 3}: {1, 2, 2, 16, 1},
	}
)

// AttentionBack computes the gradients of attention: those of keys and values a tile of keys at a time, over the query heads of the group
// and their queries in ascending order, those of queries a tile of queries at a time.
//
// Memory: 2*terms*kp*tp bytes (see heads) twice for each query head and twice for each KV head of a sequence, and 8*tp for each query head:
// B*(4*terms*kp*tp*(H+G) + 8*tp*H) in all, or in pieces down to 4*terms*kp*tp*(H/G+1) + 8*tp*H/G.
func (d *Device) AttentionBack(dq, dk, dv, dout, q, k, v, out, lse device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "AttentionBack"
	checkHeads(op, s, masks)
	if s.T == 0 {
		return
	}
	c := d.begin(op)
	defer c.end()
	n := s.Sequences()
	hq, hk := n*s.T*s.H*s.K, n*s.T*s.G*s.K
	h := c.heads(s, masks)
	b := &headsBack{heads: h, q: c.in(q, hq), k: c.in(k, hk), v: c.in(v, hk), out: c.in(out, hq), dout: c.in(dout, hq), lse: c.in(lse, n*s.H*s.T),
		dq: c.out(dq, hq), dk: c.out(dk, hk), dv: c.out(dv, hk)}
	each, rows := h.planeBytes(), 4*int64(h.tp)*int64(h.group)
	pieces := h.pieces(h.backUnitBytes())
	units := int64(pieces[0].units())
	b.planes[0] = c.scratch(units * h.backUnitBytes())
	for i, size := range []int64{int64(h.group) * each, int64(h.group) * each, each, each, rows} {
		b.planes[i+1] = b.planes[i] + ptr(units*size)
	}
	for _, p := range pieces {
		b.prepare(p)
		b.keyGradients(p)
		b.queryGradients(p)
	}
}

// headsBack is a call of AttentionBack.
type headsBack struct {
	*heads
	q, k, v, out, dout, lse, dq, dk, dv ptr
	planes                              [6]ptr // q, dout, k, v of a piece, the lse of its queries in base 2, and dout·out
}

// prepare makes the planes of a piece.
func (b *headsBack) prepare(p piece) {
	s := b.s
	b.splitQueries(b.planes[0], b.q, p, b.sign)
	b.splitQueries(b.planes[1], b.dout, p, 1)
	b.splitKeys(b.planes[2], b.k, p)
	b.splitKeys(b.planes[3], b.v, p)
	grid := [3]int{(b.tp + 7) / 8, p.kv * b.group, p.seqs}
	b.c.launch("planes", "attention_delta", grid, [3]int{256, 1, 1}, 0, b.planes[4], b.planes[5], b.rows(b.lse, p), b.queries(b.out, p),
		b.queries(b.dout, p), int64(s.H)*int64(s.K), s.H, s.T, b.tp, s.K, b.terms)
}

// keyGradients computes the gradients by keys and values of a piece. Its queries have the sign that the scale lacks.
func (b *headsBack) keyGradients(p piece) {
	t := keyTiles[b.width()]
	blocks := (b.s.T + t.rows() - 1) / t.rows() * p.units()
	b.run("keys", t, blocks, []any{b.keys(b.dk, p), b.keys(b.dv, p), b.s.G * b.s.K}, p, b.band(p, 2*b.group), b.s.Scale*b.sign)
}

// queryGradients computes the gradients by queries of a piece.
func (b *headsBack) queryGradients(p piece) {
	t := queryTiles[b.width()]
	blocks := (b.s.T + t.rows() - 1) / t.rows() * b.group * p.units()
	b.run("queries", t, blocks, []any{b.queries(b.dq, p), b.s.H * b.s.K}, p, b.band(p, 2), b.s.Scale)
}

func (b *headsBack) run(of string, t tiling, blocks int, results []any, p piece, band int, factor float32) {
	args := append(results, b.planes[0], b.planes[1], b.planes[2], b.planes[3], b.planes[4], b.planes[5], b.masksOf(p), p.seqs, p.kv, b.group,
		b.s.T, b.tp, b.s.K, band, b.scale, factor)
	b.c.launch(fmt.Sprintf("attnback_%d", b.kp), fmt.Sprintf("attnback_%s_%d_%d", of, b.kp, b.terms), [3]int{blocks, 1, 1}, t.threads(), b.backShared(t), args...)
}

// backShared is the shared memory of a block: two tiles that it holds, and two that pass by with what is known of their queries.
func (h *heads) backShared(t tiling) int {
	return 4*h.terms*h.kp*(t.rows()+t.stages*t.cols) + t.stages*8*t.cols
}

// backUnitBytes is the scratch of a KV head of a sequence and its query heads: planes of these, dout, keys and values, and what is known of
// each query.
func (h *heads) backUnitBytes() int64 {
	return 2*int64(h.group+1)*h.planeBytes() + 8*int64(h.tp)*int64(h.group)
}
