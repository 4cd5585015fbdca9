package nn

import (
	"modelpress/formats/manifest"
	"modelpress/internal/num"
)

// segment is a part of the prompt's queries [lo, hi) whose patterns are estimated from the queries [from, to).
type segment struct {
	lo, hi, from, to int
	dense, chunk     bool
}

// segments cuts the prompt as chunks and the plan ask for.
func (w *work) segments() []segment {
	c, phase := w.s.opt.Chunk, w.s.opt.Plan.Phases.Prefill
	if c == 0 || c >= w.prompt {
		return []segment{{hi: w.prompt, to: w.prompt, chunk: phase.ChunkMask == "chunk"}}
	}
	var out []segment
	lo := 0
	if phase.FirstChunk == "dense" {
		out = append(out, segment{hi: c, dense: true})
		lo = c
	}
	if phase.ChunkMask != "chunk" {
		return append(out, segment{lo: lo, hi: w.prompt, to: w.prompt})
	}
	for ; lo < w.prompt; lo += c {
		hi := min(lo+c, w.prompt)
		out = append(out, segment{lo: lo, hi: hi, from: lo, to: hi, chunk: true})
	}
	return out
}

// prefillRun carries one query head through the prompt.
type prefillRun struct {
	w    *work
	a    *AttnState
	h    int
	head num.AttnHead
	pol  manifest.Policy
	row  RowAttention
	turn *turner
	gone *dropped // keys dropped so far, where a mean stands in for them
}

// prefillHead writes the outputs of one query head over the prompt and returns the pairs that it attended.
func (w *work) prefillHead(a *AttnState, h int) (pairs int64) {
	r := &prefillRun{w: w, a: a, h: h, head: w.head(a, h, w.prompt), pol: w.prefill[h]}
	if w.s.renumbers() && r.pol.Kind == manifest.KindStreaming {
		r.turn = w.s.m.turner(a.Shape.K, w.t)
	}
	if r.pol.Compensation {
		r.gone = newDropped(a.Shape.K)
	}
	segments := []segment{{hi: w.prompt, to: w.prompt}}
	if r.pol.Kind != manifest.KindFull {
		segments = w.segments()
	}
	for _, seg := range segments {
		pairs += r.segment(seg)
	}
	return pairs
}

func (r *prefillRun) segment(seg segment) int64 {
	pol := r.pol
	if seg.dense {
		pol = manifest.Full()
	}
	if m, ok := maskOf(pol, r.w.own); ok && !seg.chunk && (r.turn == nil || m.Full()) {
		head, limit := r.head, 0
		if head.Sink, head.Recent = m.Sink, m.Recent; !m.Full() {
			limit = m.Sink + m.Recent
		}
		s := r.a.Shape
		num.AttentionHead(r.a.Out[r.h*s.K:], s.H*s.K, nil, head, seg.lo, seg.hi)
		return seenBy(seg.lo, seg.hi, limit)
	}
	var sinks []int
	if pol.Kind == manifest.KindSinkScaled {
		sinks = SinkColumns(r.head, seg.from, seg.to, pol.Skip, pol.Threshold)
	}
	return r.rows(seg, r.pattern(pol, seg), sinks)
}

// pattern returns what the queries of a segment see.
func (r *prefillRun) pattern(p manifest.Policy, seg segment) Pattern {
	switch p.Kind {
	case manifest.KindStreaming:
		return MaskPattern{Sink: p.Sink, Recent: p.Recent, Chunk: seg.chunk, From: seg.from, Window: r.w.own}
	case manifest.KindVerticalSlash:
		columns, diagonals := Estimate(r.head, seg.from, seg.to, p.LastQ)
		return TopVerticalSlash(columns, diagonals, p.Vertical, p.Slash, p.ForceVertical, p.ForceSlash)
	case manifest.KindBlockTopK:
		return SelectBlocks(r.head, seg.from, seg.to, p)
	case manifest.KindLocalStride, manifest.KindPower:
		s := NewStridePattern(p)
		s.Chunk, s.From, s.To = seg.chunk, seg.from, seg.to
		return s
	}
	return MaskPattern{Recent: r.w.own} // full and sink_scaled
}

// rows attends row by row.
func (r *prefillRun) rows(seg segment, pattern Pattern, sinks []int) (pairs int64) {
	w, h := &r.row, r.head
	var spans []Span
	for i := seg.lo; i < seg.hi; i++ {
		spans = pattern.Spans(spans[:0], i)
		if r.w.own > 0 && r.pol.Kind != manifest.KindStreaming {
			spans = from(spans, i-r.w.own+1)
		}
		pairs += int64(Covered(spans))
		q, out := queryOf(h, i), output(r.a, r.h, i)
		if r.turn != nil {
			w.within(r.turn, q, h.K, h.LDK, h.Scale, spans, nil, i)
		} else {
			w.scores(q, h.K, h.LDK, h.Scale, spans)
		}
		if r.drop(pattern, i) {
			pairs++
			r.gone.score(w, q, h.Scale)
		}
		w.soften()
		if len(sinks) > 0 {
			w.rescale(spans, sinks, r.pol.Scale, nil)
		}
		w.sum(out, h.V, h.LDV, spans)
		if r.gone != nil && r.gone.n > 0 {
			r.gone.sum(w, out)
		}
	}
	return pairs
}

// drop adds what the mask has newly hidden from query i to the dropped keys, and reports whether there are any.
func (r *prefillRun) drop(p Pattern, i int) bool {
	m, ok := p.(MaskPattern)
	if r.gone == nil || !ok {
		return false
	}
	for j := m.Sink + r.gone.n; j < m.low(i); j++ {
		r.gone.add(r.head.K[j*r.head.LDK:][:r.head.Dim], r.head.V[j*r.head.LDV:][:r.head.Dim])
	}
	return r.gone.n > 0
}
