package nn

import (
	"modelpress/internal/num"
)

// least is the share of attention that must lie outside of sinks for the rest to be raised in its proportions.
const least = 1e-6

// SinkColumns returns the keys from skip on whose mean attention, over the queries of [lo, hi) that see them, exceeds
// threshold: the attention sinks of ACT (arXiv:2406.15765, section 3). The window of h is in force. Memory: 20*hi bytes.
func SinkColumns(h num.AttnHead, lo, hi, skip int, threshold float64) []int {
	columns, _ := Estimate(h, lo, hi, hi-lo)
	var sinks []int
	for j := skip; j < hi; j++ {
		end := hi
		if h.Recent > 0 {
			end = min(hi, j+h.Recent)
		}
		if seen := end - max(lo, j); seen > 0 && columns[j]/float64(seen) > threshold {
			sinks = append(sinks, j)
		}
	}
	return sinks
}

// rescale multiplies the weights of the sinks (ascending) by factor and those of all other keys so that the row sums to 1
// again (ACT, equations 4 to 6). A row that sees hardly anything but sinks stays as it is. position gives the position of
// a row of keys; nil where they are the same.
func (w *RowAttention) rescale(spans []Span, sinks []int, factor float64, position []int) {
	var at []int // weights of sinks
	total, rest, n, next := 0.0, 0.0, 0, 0
	for _, s := range spans {
		for r := s.Lo; r < s.Hi; r++ {
			j := r
			if position != nil {
				j = position[r]
			}
			for next < len(sinks) && sinks[next] < j {
				next++
			}
			if next < len(sinks) && sinks[next] == j {
				total += float64(w.p[n])
				at = append(at, n)
			} else {
				rest += float64(w.p[n])
			}
			n++
		}
	}
	if len(at) == 0 || rest <= least {
		return
	}
	raise := (rest + float64((1-factor)*total)) / rest
	for _, i := range at {
		w.p[i] *= float32(factor / raise)
	}
	num.Scale(w.p, float32(raise))
}
