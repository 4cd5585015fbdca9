package nn

import "math"

// turner moves rotated queries to other positions: a rotation by the difference of two angles.
type turner struct{ inv []float32 }

// turn writes q [K], rotated for some position, to dst as it would be shift positions earlier.
func (t *turner) turn(dst, q []float32, shift int) {
	half := len(q) / 2
	for j, f := range t.inv {
		s, c := math.Sincos(-float64(shift) * float64(f))
		a, b := float64(q[j]), float64(q[j+half])
		dst[j] = float32(float64(a*c) - float64(b*s))
		dst[j+half] = float32(float64(b*c) + float64(a*s))
	}
}

// turner returns the rotation of head dim k in a window of t tokens.
func (m *Model) turner(k, t int) *turner {
	freq := 1
	if m.Arch.Rope.Type == "dynamic" {
		freq = max(t, m.Arch.Rope.OriginalMaxPosition)
	}
	inv, _ := InvFreq(m.Arch.Rope, k, freq)
	return &turner{inv}
}

// within fills p with the scores of q, at position i, as if keys and query stood at their places among the keys in spans
// (StreamingLLM, arXiv:2309.17453, section 3.2), the query at the last one. Keys are as they were rotated for their
// positions, which position gives by row (nil where they are the same): two places differ from two positions by one
// rotation, which the query takes.
func (w *RowAttention) within(t *turner, q, k []float32, ld int, scale float32, spans []Span, position []int, i int) {
	n := Covered(spans)
	w.room(n)
	if cap(w.turned) < len(q) {
		w.turned = make([]float32, len(q))
	}
	turned, have := w.turned[:len(q)], -1
	place := 0
	for _, s := range spans {
		for lo := s.Lo; lo < s.Hi; {
			at, hi := lo, s.Hi
			if position != nil {
				at = position[lo]
				for hi = lo + 1; hi < s.Hi && position[hi] == at+hi-lo; {
					hi++
				}
			}
			// The query moves from i to n-1, keys of this run from at to place.
			shift := (i - (n - 1)) - (at - place)
			use := q
			if shift != 0 {
				if shift != have {
					t.turn(turned, q, shift)
					have = shift
				}
				use = turned
			}
			place = w.span(place, use, k, ld, scale, Span{lo, hi})
			lo = hi
		}
	}
}
