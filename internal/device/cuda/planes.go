//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"modelpress/internal/device"
)

const (
	planeRows  = 64  // rows of planes are a multiple of it
	maxHeadDim = 256 // of the kernels of attention
)

// cacheBytes is the part of the second-level cache for the planes that blocks which run together read: tests have less.
var cacheBytes int64 = 24 << 20

// heads is what the kernels of attention take of a call. They read queries, keys, values and gradients as planes: for each head a matrix of
// tp rows, T rounded up to a multiple of 64, and kp columns, the head dim rounded up to 64, 128 or 256, in bfloat16. In the bf16 class a
// value is rounded, to one plane; in the f32 class it is the sum of three. Planes are made anew in every call.
//
// Memory: a query head of a sequence has 2*terms*kp*tp bytes for each of its tensors, and so has a KV head. Where scratch is short a call
// goes over its sequences and KV heads in pieces, down to one KV head of one sequence with its H/G query heads.
type heads struct {
	c                    *call
	s                    device.AttnShape
	group, terms, kp, tp int
	masks                ptr     // a pair of sink and recent for each KV head
	scale                float32 // that the kernels take: of base 2, above 0
	sign                 float32 // that queries are multiplied with instead
}

// heads checks a shape and its masks. There is at least one position.
func (c *call) heads(s device.AttnShape, masks []device.Mask) *heads {
	if s.K > maxHeadDim {
		c.fail(fmt.Errorf("a head dim of %d, and the kernels have at most %d", s.K, maxHeadDim))
	}
	h := &heads{c: c, s: s, group: s.H / s.G, terms: 3, kp: 64, tp: (s.T + planeRows - 1) / planeRows * planeRows, sign: 1}
	if c.d.bf16 {
		h.terms = 1
	}
	for h.kp < s.K {
		h.kp *= 2
	}
	scale := float64(s.Scale)
	if scale < 0 {
		scale, h.sign = -scale, -1
	}
	// Of a hidden score, -Inf, a scale of 0 would make NaN.
	h.scale = float32(max(scale*math.Log2E, 1e-30))
	pairs := make([]int32, 0, 2*s.G)
	for g := range s.G {
		sink, recent := 0, s.T
		if masks != nil && !masks[g].Full() {
			sink, recent = min(max(masks[g].Sink, 0), s.T), min(masks[g].Recent, s.T)
		}
		pairs = append(pairs, int32(sink), int32(recent))
	}
	h.masks = c.table(intBytes(pairs))
	return h
}

// checkHeads panics where a shape and its masks do not fit.
func checkHeads(op string, s device.AttnShape, masks []device.Mask) {
	if s.G <= 0 || s.H%s.G != 0 || s.T < 0 || s.K < 0 || masks != nil && len(masks) != s.G {
		panic(fmt.Sprintf("cuda: %s: %d query heads, %d KV heads, %d masks", op, s.H, s.G, len(masks)))
	}
}

// planeBytes is what a head of a sequence takes as planes.
func (h *heads) planeBytes() int64 { return 2 * int64(h.terms) * int64(h.kp) * int64(h.tp) }

// piece is a part of a call: seqs sequences from seq on, and of them kv KV heads from head on with their query heads.
type piece struct{ seq, seqs, head, kv int }

// units is the number of KV heads of sequences.
func (p piece) units() int { return p.seqs * p.kv }

// pieces cuts a call, of which each KV head of a sequence needs some scratch, so that there is room for a piece
// and the rows of its planes have numbers of 31 bits.
func (h *heads) pieces(bytes int64) []piece {
	seqs, kv := min(h.s.Sequences(), 65535), h.s.G
	fits := func() bool {
		units := int64(seqs) * int64(kv)
		return units*int64(h.group*h.tp) <= math.MaxInt32 && h.c.room(units*bytes)
	}
	for !fits() && seqs*kv > 1 {
		if seqs > 1 {
			seqs = (seqs + 1) / 2
		} else {
			kv = (kv + 1) / 2
		}
	}
	var out []piece
	for i := 0; i < h.s.Sequences(); i += seqs {
		for g := 0; g < h.s.G; g += kv {
			out = append(out, piece{i, min(seqs, h.s.Sequences()-i), g, min(kv, h.s.G-g)})
		}
	}
	return out
}

// queries is the address of what a tensor [sequences, T, H, K] has of a piece, and keys that of one of KV heads.
func (h *heads) queries(x ptr, p piece) ptr {
	return x + ptr(4*(int64(p.seq)*int64(h.s.T)*int64(h.s.H)+int64(p.head*h.group))*int64(h.s.K))
}
func (h *heads) keys(x ptr, p piece) ptr {
	return x + ptr(4*(int64(p.seq)*int64(h.s.T)*int64(h.s.G)+int64(p.head))*int64(h.s.K))
}

// rows is the address of what a tensor [sequences, H, T] has of a piece.
func (h *heads) rows(x ptr, p piece) ptr {
	return x + ptr(4*(int64(p.seq)*int64(h.s.H)+int64(p.head*h.group))*int64(h.s.T))
}

// masksOf is the address of the masks of a piece.
func (h *heads) masksOf(p piece) ptr { return h.masks + ptr(8*p.head) }

// splitQueries and splitKeys write a piece of a tensor as planes to dst.
func (h *heads) splitQueries(dst, x ptr, p piece, sign float32) {
	h.split(dst, h.queries(x, p), p.kv*h.group, p.seqs, h.s.H, sign)
}
func (h *heads) splitKeys(dst, x ptr, p piece) { h.split(dst, h.keys(x, p), p.kv, p.seqs, h.s.G, 1) }

func (h *heads) split(dst, x ptr, heads, seqs, all int, sign float32) {
	grid := [3]int{(h.tp*h.kp/8 + 255) / 256, heads, seqs}
	h.c.launch("planes", "attention_planes", grid, [3]int{256, 1, 1}, 0, dst, x, int64(all)*int64(h.s.K), h.s.T, h.tp, h.s.K, h.kp, h.terms, sign)
}

// band is the number of KV heads of sequences, of the piece's, whose blocks run together: as many as have their passing planes, of that many
// heads each, in the cache.
func (h *heads) band(p piece, heads int) int {
	return int(max(1, min(int64(p.units()), cacheBytes/(int64(heads)*h.planeBytes()))))
}
