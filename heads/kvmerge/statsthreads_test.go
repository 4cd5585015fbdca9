package kvmerge

import (
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/num"
)

// moments lists everything that Stats hold, for a comparison by bits.
func moments(st *Stats) []float64 {
	var out []float64
	for _, p := range st.parts {
		d := st.value(p.heads)
		out = slices.Concat(out, d.c, slices.Concat(d.m...))
		for j := range st.Shape.Frequencies() {
			q := st.pair(p.heads, j)
			for _, z := range q.c {
				out = append(out, real(z), imag(z))
			}
			out = append(out, q.q...)
		}
		if d := st.rest(p.heads); d != nil {
			out = slices.Concat(out, d.c, slices.Concat(d.m...))
		}
	}
	return out
}

func TestStatsAndMapsAtAnyNumberOfThreads(t *testing.T) {
	for _, s := range []Shape{{H: 8, G: 8, K: 48, Rotary: 32}, {H: 8, G: 8, K: 32}, {H: 16, G: 8, K: 32, Rotary: 32, Pairs: Interleaved}} {
		x := drawSample(s, 6, 1300, 70)
		for _, groups := range []Groups{nil, {{0, 5}, {3, 2}, {1, 4}, {7, 6}}} {
			solve := groups
			if groups == nil {
				solve = Contiguous(8, 4)
			}
			var first []float64
			for i, par := range []num.Par{nil, viewThreads(2), viewThreads(3), goroutines, cpu.New(2).For} {
				st := x.stats(groups, par)
				now := moments(st)
				for _, method := range Methods() {
					m, lost, err := st.Solve(solve, Ways{method, method}, par)
					if err != nil {
						t.Fatal(err)
					}
					for _, side := range m.sides() {
						now = append(now, slices.Concat(side...)...)
					}
					now = append(now, lost.Key, lost.Value, lost.Output, lost.Had)
				}
				if i == 0 {
					first = now
				} else if !slices.Equal(now, first) {
					t.Errorf("%+v, groups %v: other bits on threads %d", s, groups, i)
				}
			}
		}
	}
}
