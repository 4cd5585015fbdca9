package nn

import (
	"modelpress/formats/manifest"
)

// Pattern is a set of keys for each query of one head.
type Pattern interface {
	// Spans appends the keys that query i sees to dst: sorted, disjoint, within [0, i+1), and i among them.
	Spans(dst []Span, i int) []Span
}

// MaskPattern sees the first Sink keys and the last Recent, the query's own included; Recent 0 sees every key. With Chunk
// the last ones are counted from position From on: what the queries of a chunk that starts there see together, but for
// keys other than sinks that lie outside of a window of Window tokens, 0 for none.
type MaskPattern struct {
	Sink, Recent int
	Chunk        bool
	From         int
	Window       int
}

// low returns the first key of the recent window of query i.
func (p MaskPattern) low(i int) int {
	if p.Recent <= 0 {
		return 0
	}
	if !p.Chunk {
		return max(0, i-p.Recent+1)
	}
	low := max(0, p.From-p.Recent+1)
	if p.Window > 0 {
		low = max(low, i-p.Window+1)
	}
	return low
}

// Spans implements [Pattern].
func (p MaskPattern) Spans(dst []Span, i int) []Span {
	low := p.low(i)
	return join(join(dst, 0, min(p.Sink, low)), low, i+1)
}

// BlockPattern sees whole blocks of keys, chosen for each block of queries. Blocks of queries are counted from From, those
// of keys from 0.
type BlockPattern struct {
	From, Block int
	Keys        [][]int // per block of queries: the blocks of keys, ascending
}

// Spans implements [Pattern].
func (p *BlockPattern) Spans(dst []Span, i int) []Span {
	for _, c := range p.Keys[(i-p.From)/p.Block] {
		dst = join(dst, c*p.Block, min((c+1)*p.Block, i+1))
	}
	return dst
}

// StridePattern is local_stride or power, which depend on positions alone: block r of queries sees block c of keys where
// r-c < LocalBlocks, and besides the columns Offset, Offset+VertStride, … (S2-Attention, arXiv:2407.17678) or, with Power,
// those where r-c is a power of two (PowerAttention, arXiv:2503.03588) and the first Sink keys.
type StridePattern struct {
	Block, LocalBlocks int
	VertStride, Offset int
	Power              bool
	Sink               int
	// Chunk lets each query see what any query of [From, To) sees.
	Chunk    bool
	From, To int
}

// NewStridePattern returns the pattern of a local_stride or power policy.
func NewStridePattern(p manifest.Policy) *StridePattern {
	return &StridePattern{Block: p.Block, LocalBlocks: p.LocalBlocks, VertStride: max(1, p.VertStride), Offset: p.Offset,
		Power: p.Kind == manifest.KindPower, Sink: p.Sink}
}

// sees reports whether block r of queries sees block c <= r of keys.
func (p *StridePattern) sees(r, c int) bool {
	d := r - c
	if d < p.LocalBlocks {
		return true
	}
	if p.Power {
		return d&(d-1) == 0
	}
	return c >= p.Offset && (c-p.Offset)%p.VertStride == 0
}

// Spans implements [Pattern].
func (p *StridePattern) Spans(dst []Span, i int) []Span {
	first, last := i/p.Block, i/p.Block
	if p.Chunk {
		first, last = p.From/p.Block, (p.To-1)/p.Block
	}
	if p.Power {
		dst = join(dst, 0, min(p.Sink, i+1))
	}
	for c := 0; c <= i/p.Block; c++ {
		for r := max(first, c); r <= last; r++ {
			if p.sees(r, c) {
				dst = join(dst, c*p.Block, min((c+1)*p.Block, i+1))
				break
			}
		}
	}
	return dst
}
