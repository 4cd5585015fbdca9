package heads

import (
	"modelpress/internal/nn"
	"modelpress/internal/num"
)

// head returns query head h as the pattern functions of nn take it, without values where they are not on the host. The layer must have no sliding window.
func (r rows) head(h int) num.AttnHead {
	s := r.Shape
	g := h / (s.H / s.G)
	a := num.AttnHead{Q: r.Q[h*s.K:], K: r.K[g*s.K:], LDQ: s.H * s.K, LDK: s.G * s.K, LDV: s.G * s.K, T: s.T, Dim: s.K, Scale: s.Scale}
	if r.V != nil {
		a.V = r.V[g*s.K:]
	}
	return a
}

// sampleRows returns the positions from on of n blocks of queries that are spread evenly over the blocks of [from, t),
// ascending; of all blocks where there are no more than n, or n is 0.
func sampleRows(t, block, n, from int) []int {
	first := from / block
	blocks := (t+block-1)/block - first
	if n <= 0 || n > blocks {
		n = blocks
	}
	var out []int
	for k := range n {
		b := first + (2*k+1)*blocks/(2*n)
		for i := max(from, b*block); i < min((b+1)*block, t); i++ {
			out = append(out, i)
		}
	}
	return out
}

// patternLoss holds sums over sampled queries of one head under a pattern.
type patternLoss struct {
	diff, full float64 // squared difference of the outputs, and squared dense output
	mass       float64 // attention to the keys that are seen
	rows       int
}

func (l *patternLoss) add(o patternLoss) {
	l.diff += o.diff
	l.full += o.full
	l.mass += o.mass
	l.rows += o.rows
}

// relative is the output's error, root mean square over queries.
func (l *patternLoss) relative() float64 { return rootRatio(l.diff, l.full) }

// retained is the mean attention to the keys that are seen; 1 where there are no queries.
func (l *patternLoss) retained() float64 {
	if l.rows == 0 {
		return 1
	}
	return l.mass / float64(l.rows)
}

// patternLoss measures what head h loses under a pattern, against its dense output. Memory: 4*T bytes.
func (r rows) patternLoss(h int, sample []int, p nn.Pattern) (l patternLoss) {
	var at nn.RowAttention
	head, k := r.head(h), r.Shape.K
	out := make([]float32, k)
	var spans []nn.Span
	for _, i := range sample {
		spans = p.Spans(spans[:0], i)
		lse := at.Attend(out, head, i, spans)
		l.addRow(r.Out[(i*r.Shape.H+h)*k:][:k], out, float64(lse)-float64(r.LSE[h*r.Shape.T+i]))
	}
	return l
}
