package nn

// Span is the half-open range [Lo, Hi) of positions.
type Span struct{ Lo, Hi int }

// join appends [lo, hi) to spans that are sorted and disjoint, as one with the last where they touch. lo must not lie
// before the last span.
func join(spans []Span, lo, hi int) []Span {
	if lo >= hi {
		return spans
	}
	if n := len(spans); n > 0 && spans[n-1].Hi >= lo {
		spans[n-1].Hi = max(spans[n-1].Hi, hi)
		return spans
	}
	return append(spans, Span{lo, hi})
}

// from drops the positions before lo from sorted spans, in place.
func from(spans []Span, lo int) []Span {
	n := 0
	for _, s := range spans {
		if s.Hi > lo {
			spans[n] = Span{max(s.Lo, lo), s.Hi}
			n++
		}
	}
	return spans[:n]
}

// Covered returns the number of positions in spans that are disjoint.
func Covered(spans []Span) int {
	n := 0
	for _, s := range spans {
		n += s.Hi - s.Lo
	}
	return n
}

// runsOf returns sorted positions as spans.
func runsOf(sorted []int) []Span {
	var out []Span
	for _, j := range sorted {
		out = join(out, j, j+1)
	}
	return out
}
