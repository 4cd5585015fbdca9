//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

// tiling is the shape of a block of a kernel of attention, as the macro that defines the kernel gives it: warps, of which split share
// 16*blocks rows, tiles of cols rows that pass by, and how many of these have room at once.
type tiling struct{ blocks, warps, split, cols, stages int }

func (t tiling) rows() int { return 16 * t.blocks * t.warps / t.split }

func (t tiling) threads() [3]int { return [3]int{32 * t.warps, 1, 1} }

// width names a kernel: the width of its rows and the number of planes.
type width struct{ kp, terms int }

func (h *heads) width() width { return width{h.kp, h.terms} }

// attentionTiles are those of the kernels attention_kp_terms.
var attentionTiles = map[width]tiling{
	{64, 1}: {2, 4, 1, 64, 1}, {64, 3}: {1, 4, 1, 64, 1},
	{128, 1}: {2, 4, 1, 64, 1}, {128, 3}: {1, 4, 1, 32, 1},
	{256, 1}: {1, 4, 1, 64, 1}, {256, 3}: {1, 2, 1, 16, 1},
}

// Attention computes causal attention of every head under the masks of the KV heads; lse may be nil. Scores and outputs are products of
// planes (see heads) on tensor cores, with sums in f32.
//
// Memory: 2*terms*kp*tp bytes for each query head and twice that for each KV head of a sequence, 2*terms*kp*B*tp*(H+2G) in all, or in
// pieces down to 2*terms*kp*tp*(H/G+2).
func (d *Device) Attention(out, lse, q, k, v device.Buf, s device.AttnShape, masks []device.Mask) {
	const op = "Attention"
	checkHeads(op, s, masks)
	if s.T == 0 {
		return
	}
	c := d.begin(op)
	defer c.end()
	n := s.Sequences()
	hq, hk := n*s.T*s.H*s.K, n*s.T*s.G*s.K
	qs, ks, vs, o, l := c.in(q, hq), c.in(k, hk), c.in(v, hk), c.out(out, hq), ptr(0)
	if lse != nil {
		l = c.out(lse, n*s.H*s.T)
	}
	h := c.heads(s, masks)
	pieces := h.pieces(h.unitBytes())
	units, each := int64(pieces[0].units()), h.planeBytes()
	qp := c.scratch(units * h.unitBytes())
	kp := qp + ptr(units*int64(h.group)*each)
	vp := kp + ptr(units*each)
	for _, p := range pieces {
		h.splitQueries(qp, qs, p, h.sign)
		h.splitKeys(kp, ks, p)
		h.splitKeys(vp, vs, p)
		rows := l
		if rows != 0 {
			rows = h.rows(l, p)
		}
		h.attend(h.queries(o, p), rows, qp, kp, vp, p)
	}
}

// attend launches the kernel on the planes of a piece.
func (h *heads) attend(out, lse, q, k, v ptr, p piece) {
	t := attentionTiles[h.width()]
	blocks := (h.s.T + t.rows() - 1) / t.rows() * h.group * p.units()
	h.c.launch(fmt.Sprintf("attention_%d", h.kp), fmt.Sprintf("attention_%d_%d", h.kp, h.terms), [3]int{blocks, 1, 1}, t.threads(), h.shared(t),
		out, lse, q, k, v, h.masksOf(p), p.seqs, p.kv, h.group, h.s.H, h.s.T, h.tp, h.s.K, h.band(p, 2), h.scale)
}

// shared is the shared memory of a block: a tile of queries, one of keys and one of values.
func (h *heads) shared(t tiling) int { return 2 * h.terms * h.kp * (t.rows() + 2*t.cols) }

// unitBytes is the scratch of a KV head of a sequence and its query heads: planes of queries, keys and values.
func (h *heads) unitBytes() int64 { return int64(h.group+2) * h.planeBytes() }
