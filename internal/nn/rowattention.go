package nn

import (
	"math"

	"modelpress/internal/num"
)

// RowAttention computes the attention of one query at a time to any set of keys. It keeps one weight per key seen, so its
// memory is 4*T bytes whatever the set. The zero value is ready; it is not safe for concurrent use.
type RowAttention struct {
	p      []float32 // weights of the keys, in the order of the spans
	turned []float32 // the query turned by a shift of positions
}

// Weights returns the softmax of query i of h over the keys in spans, in their order, and the log of the sum of
// exponentials. The mask of h is not looked at. The weights are valid until the next call.
func (w *RowAttention) Weights(h num.AttnHead, i int, spans []Span) (p []float32, lse float32) {
	w.scores(queryOf(h, i), h.K, h.LDK, h.Scale, spans)
	lse = w.soften()
	return w.p, lse
}

// Attend writes the output of query i of h over the keys in spans to out [Dim] and returns the log of the sum of
// exponentials.
func (w *RowAttention) Attend(out []float32, h num.AttnHead, i int, spans []Span) (lse float32) {
	_, lse = w.Weights(h, i, spans)
	w.sum(out, h.V, h.LDV, spans)
	return lse
}

// scores fills p with scale*q·k over the rows of k (ld apart) in spans.
func (w *RowAttention) scores(q, k []float32, ld int, scale float32, spans []Span) {
	w.room(Covered(spans))
	at := 0
	for _, s := range spans {
		at = w.span(at, q, k, ld, scale, s)
	}
}

func (w *RowAttention) room(n int) {
	if cap(w.p) < n+1 { // one more for what stands in for dropped keys
		w.p = make([]float32, n+1, n+n/4+64)
	}
	w.p = w.p[:n]
}

func (w *RowAttention) span(at int, q, k []float32, ld int, scale float32, s Span) int {
	for j := s.Lo; j < s.Hi; j++ {
		w.p[at] = scale * num.Dot(q, k[j*ld:j*ld+len(q)])
		at++
	}
	return at
}

// soften turns scores into weights and returns the log of their sum.
func (w *RowAttention) soften() float32 { return num.Softmax(w.p, w.p) }

// sum writes the weighted sum of the rows of v in spans to out.
func (w *RowAttention) sum(out, v []float32, ld int, spans []Span) {
	clear(out)
	at := 0
	for _, s := range spans {
		for j := s.Lo; j < s.Hi; j++ {
			num.Axpy(out, w.p[at], v[j*ld:j*ld+len(out)])
			at++
		}
	}
}

// dropped is what stands in for keys and values that left the cache: their number and sums. RazorAttention
// (arXiv:2407.15891) adds one key, the mean of the dropped ones, that weighs as much as all of them together.
type dropped struct {
	n    int
	k, v []float64
}

func newDropped(dim int) *dropped { return &dropped{k: make([]float64, dim), v: make([]float64, dim)} }

func (d *dropped) add(k, v []float32) {
	d.n++
	num.AddWide(d.k, k)
	num.AddWide(d.v, v)
}

// score appends to the scores the one of the mean key, scale*q·k̄ + ln N.
func (d *dropped) score(w *RowAttention, q []float32, scale float32) {
	dot := 0.0
	for c, v := range q {
		dot += float64(float64(v) * d.k[c])
	}
	w.p = append(w.p, float32(float64(scale)*dot/float64(d.n)+math.Log(float64(d.n))))
}

// sum adds the mean value under its weight, the last of w.
func (d *dropped) sum(w *RowAttention, out []float32) {
	p := float64(w.p[len(w.p)-1]) / float64(d.n)
	for c, v := range d.v {
		out[c] += float32(p * v)
	}
}
