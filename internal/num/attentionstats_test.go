package num

import (
	"fmt"
	"math"
	"testing"
)

// newStats asks for everything about a head.
func newStats(t, sink, width int, rows []int) AttnStats {
	n := AttnBands(t, width)
	f := func(n int) []float64 { return make([]float64, n) }
	return AttnStats{Width: width, ColumnSums: f(t), Blocks: f(n * n), Bands: f(n), Rows: rows, ArgMax: make([]int, len(rows)),
		Peak: make([]float32, len(rows)), Sink: sink, Influence: f(n), Drop: f(n), DropAbs: f(n)}
}

// statsReference computes AttentionStats from whole rows in float64, Drop by leaving keys out and renormalising.
func statsReference(st AttnStats, h AttnHead, g AttnGrad) {
	n, width := AttnBands(h.T, st.Width), st.Width
	if width == 0 {
		width = BandKeys
	}
	type cell struct{ a, slope float64 }
	rows, means := make([]map[int]cell, h.T), make([]float64, h.T)
	AttentionBackReference(nil, nil, nil, h, g, func(i, j int, a, slope, mean float64) {
		if rows[i] == nil {
			rows[i] = map[int]cell{}
		}
		rows[i][j], means[i] = cell{a, slope}, mean
		st.ColumnSums[j] += a
		st.Blocks[i/width*n+j/width] += a
		if j >= st.Sink {
			st.Bands[(i-j)/width] += a
		}
	})
	for i, row := range rows {
		for j, c := range row {
			e := c.slope
			if len(row) > 1 {
				e = c.a * (c.slope - means[i]) / (1 - c.a)
			}
			if j >= st.Sink {
				st.Influence[(i-j)/width] += math.Abs(e)
			}
		}
		for b := 1; b <= i/width; b++ {
			var s, p float64
			for j, c := range row {
				if j < st.Sink || i-j < width*b {
					s += c.a
					p += c.a * c.slope
				}
			}
			effect := p/s - means[i]
			st.Drop[b] += effect
			st.DropAbs[b] += math.Abs(effect)
		}
	}
	for r, i := range st.Rows {
		for j := range i + 1 {
			if c, ok := rows[i][j]; ok && c.a > float64(st.Peak[r]) {
				st.ArgMax[r], st.Peak[r] = j, float32(c.a)
			}
		}
	}
}

func TestAttentionStatsAgainstReference(t *testing.T) {
	for _, s := range [][2]int{{1, 8}, {2, 1}, {64, 16}, {65, 3}, {169, 33}, {400, 24}} {
		for m, mask := range attnMasks {
			h := randomHead(17, s[0], s[1], 2)
			h.Sink, h.Recent = mask[0], mask[1]
			g := randomGrad(18, h, 1)
			rows := []int{h.T - 1, 0, h.T / 2, h.T - 1}
			for i, sink := range []int{0, 4, 130} {
				width := []int{0, 16, 24, 8, 1, 200, 64}[(m+i)%7]
				t.Run(fmt.Sprint(s, mask, sink, width), func(t *testing.T) {
					got, want := newStats(h.T, sink, width, rows), newStats(h.T, sink, width, rows)
					AttentionStats(got, h, g)
					statsReference(want, h, g)
					closeTo(t, "column sums", got.ColumnSums, want.ColumnSums, 1e-5)
					closeTo(t, "blocks", got.Blocks, want.Blocks, 1e-5)
					closeTo(t, "bands", got.Bands, want.Bands, 1e-5)
					closeTo(t, "influence", got.Influence, want.Influence, 1e-4)
					closeTo(t, "drop", got.Drop, want.Drop, 1e-4)
					closeTo(t, "drop, magnitudes", got.DropAbs, want.DropAbs, 1e-4)
					closeTo(t, "peaks", got.Peak, want.Peak, 1e-5)
					if fmt.Sprint(got.ArgMax) != fmt.Sprint(want.ArgMax) {
						t.Errorf("most attended keys %v, want %v", got.ArgMax, want.ArgMax)
					}
					part := AttnStats{Width: width, Bands: make([]float64, AttnBands(h.T, width))}
					if sink == 0 && m == 0 { // less is asked for, nothing else is read
						h := h
						h.V = nil
						AttentionStats(part, h, AttnGrad{LSE: g.LSE})
						same(t, "bands alone", part.Bands, got.Bands)
					}
				})
			}
		}
	}
}

// Drop must be what attention under the narrower mask does to the loss.
func TestAttentionStatsDropIsTheMask(t *testing.T) {
	const n, dim = 300, 16
	h := randomHead(21, n, dim, 0)
	g := randomGrad(22, h, 0)
	st := newStats(n, 5, 0, nil)
	AttentionStats(st, h, g)
	full, cut := make([]float64, n*dim), make([]float64, n*dim)
	AttentionReference(full, nil, nil, h)
	for b := 1; b < AttnBands(n, 0); b++ {
		m := h
		m.Sink, m.Recent = 5, BandKeys*b
		AttentionReference(cut, nil, nil, m)
		var change float64
		for i, v := range cut {
			change += (v - full[i]) * float64(g.DOut[i])
		}
		if math.Abs(change-st.Drop[b]) > 1e-4*(1+math.Abs(change)) {
			t.Errorf("span %d: the mask changes the loss by %v, Drop says %v", b, change, st.Drop[b])
		}
	}
}

func BenchmarkAttentionStats(b *testing.B) {
	const n = 2048
	h := randomHead(1, n, 64, 0)
	g := randomGrad(2, h, 0)
	all := newStats(n, 64, 0, nil)
	for _, c := range []struct {
		name string
		st   AttnStats
		ops  float64
	}{
		{"columns", AttnStats{ColumnSums: all.ColumnSums}, 1}, {"bands", AttnStats{Bands: all.Bands}, 1},
		{"drop", AttnStats{Drop: all.Drop, DropAbs: all.DropAbs}, 2}, {"influence", AttnStats{Influence: all.Influence}, 2}, {"all", all, 2},
	} {
		b.Run(c.name, func(b *testing.B) {
			bench(b, c.ops*n*n*64, func() { AttentionStats(c.st, h, g) })
		})
	}
}
