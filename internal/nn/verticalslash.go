package nn

import (
	"cmp"
	"slices"

	"modelpress/internal/num"
)

// VerticalSlash sees columns of keys and diagonals of distances (MInference, arXiv:2407.02490, section 3.2).
type VerticalSlash struct {
	Columns   []Span // keys
	Diagonals []Span // distances i-j; 0 is always among them
}

// Spans implements [Pattern]: the union of both, by merging.
func (v *VerticalSlash) Spans(dst []Span, i int) []Span {
	c, d := 0, len(v.Diagonals)-1 // distances fall as keys rise
	for d >= 0 && i-v.Diagonals[d].Lo < 0 {
		d--
	}
	for {
		column := c < len(v.Columns) && v.Columns[c].Lo <= i
		if !column && d < 0 {
			return dst
		}
		lo, hi := 0, 0
		if d >= 0 {
			lo, hi = max(0, i-v.Diagonals[d].Hi+1), i-v.Diagonals[d].Lo+1
		}
		if column && (d < 0 || v.Columns[c].Lo < lo) {
			lo, hi = v.Columns[c].Lo, min(v.Columns[c].Hi, i+1)
			c++
		} else {
			d--
		}
		dst = join(dst, lo, hi)
	}
}

// Estimate returns how much attention the last queries [max(lo, hi-lastQ), hi) give to each key of [0, hi), and to each
// distance i-j, both [hi]. The window of h is in force. Memory: 20*hi bytes.
func Estimate(h num.AttnHead, lo, hi, lastQ int) (columns, diagonals []float64) {
	columns, diagonals = make([]float64, hi), make([]float64, hi)
	var w RowAttention
	for i := max(lo, hi-lastQ); i < hi; i++ {
		low := MaskPattern{Recent: h.Recent}.low(i)
		w.scores(queryOf(h, i), h.K, h.LDK, h.Scale, []Span{{low, i + 1}})
		w.soften()
		for at, p := range w.p {
			columns[low+at] += float64(p)
			diagonals[i-low-at] += float64(p)
		}
	}
	return columns, diagonals
}

func queryOf(h num.AttnHead, i int) []float32 { return h.Q[i*h.LDQ:][:h.Dim] }

// TopVerticalSlash keeps the best columns and diagonals of [Estimate]. The first forceVertical columns and the nearest
// forceSlash distances, at least 1, are always kept and count among them.
func TopVerticalSlash(columns, diagonals []float64, vertical, slash, forceVertical, forceSlash int) *VerticalSlash {
	return RankVerticalSlash(columns, diagonals).Top(vertical, slash, forceVertical, forceSlash)
}

// RankedVerticalSlash holds the columns and diagonals of [Estimate] in their order, so that several choices sort them but
// once. It is not safe for concurrent use.
type RankedVerticalSlash struct{ columns, diagonals ranking }

// RankVerticalSlash ranks the scores of [Estimate], which it keeps. Memory beside them: 16 bytes for each key.
func RankVerticalSlash(columns, diagonals []float64) *RankedVerticalSlash {
	return &RankedVerticalSlash{columns: ranking{scores: columns}, diagonals: ranking{scores: diagonals}}
}

// Top is [TopVerticalSlash] of the scores.
func (r *RankedVerticalSlash) Top(vertical, slash, forceVertical, forceSlash int) *VerticalSlash {
	return &VerticalSlash{
		Columns:   runsOf(r.columns.best(vertical, forceVertical)),
		Diagonals: runsOf(r.diagonals.best(slash, max(1, forceSlash), 0)),
	}
}

// ranking is scores and, once it was needed, their order.
type ranking struct {
	scores []float64
	sorted []int
}

// best returns the indices of the count largest scores, of which the first forced are taken whatever their score, and
// those named besides; ascending. Of equal scores the earlier index comes first.
func best(scores []float64, count, forced int, named ...int) []int {
	return (&ranking{scores: scores}).best(count, forced, named...)
}

func (r *ranking) best(count, forced int, named ...int) []int {
	n := len(r.scores)
	forced = min(forced, n)
	chosen := make([]int, 0, min(n, max(count, forced))+len(named))
	for i := range forced {
		chosen = append(chosen, i)
	}
	for _, i := range named {
		if !slices.Contains(chosen, i) {
			chosen = append(chosen, i)
		}
	}
	if left := min(count, n) - len(chosen); left > 0 {
		if r.sorted == nil {
			r.sorted = order(r.scores)
		}
		for _, i := range r.sorted {
			if left == 0 {
				break
			}
			if i >= forced && !slices.Contains(named, i) {
				chosen = append(chosen, i)
				left--
			}
		}
	}
	slices.Sort(chosen)
	return chosen
}

// order returns the indices of scores from the largest to the smallest, equal ones ascending.
func order(scores []float64) []int {
	idx := make([]int, len(scores))
	for i := range idx {
		idx[i] = i
	}
	slices.SortFunc(idx, func(a, b int) int {
		if c := cmp.Compare(scores[b], scores[a]); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	return idx
}

// Pairs returns how many query-key pairs t queries see: columns and diagonals are counted in full, less the one pair in
// which a column and a diagonal meet where it lies within the t rows.
func (v *VerticalSlash) Pairs(t int) int64 {
	var n int64
	below := func(list []Span) (n int64) { // Σ t-x over x < t
		for _, s := range list {
			for x := s.Lo; x < min(s.Hi, t); x++ {
				n += int64(t - x)
			}
		}
		return n
	}
	n = below(v.Columns) + below(v.Diagonals)
	// Diagonals below t-c meet column c: as c rises, fewer do.
	last, met := len(v.Diagonals)-1, int64(Covered(v.Diagonals))
	end := 0
	if last >= 0 {
		end = v.Diagonals[last].Hi
	}
	for _, s := range v.Columns {
		for c := s.Lo; c < min(s.Hi, t); c++ {
			for last >= 0 && end > t-c {
				end--
				met--
				if end <= v.Diagonals[last].Lo {
					if last--; last >= 0 {
						end = v.Diagonals[last].Hi
					}
				}
			}
			n -= met
		}
	}
	return n
}
