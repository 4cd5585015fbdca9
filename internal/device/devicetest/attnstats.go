package devicetest

import (
	"fmt"
	"math"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// newStats asks for everything.
func newStats(t, h, sink, width int, rows []int) *device.AttnStats {
	n := device.AttnBands(t, width)
	f := func(n int) []float64 { return make([]float64, h*n) }
	return &device.AttnStats{Width: width, ColumnSums: f(t), Blocks: f(n * n), Bands: f(n), Rows: rows, ArgMax: make([]int, h*len(rows)),
		Peak: make([]float32, h*len(rows)), Sink: sink, Influence: f(n), Drop: f(n), DropAbs: f(n)}
}

// attnStatistics: all statistics of every shape and mask.
func (s *suite) attnStatistics(t *testing.T) {
	for i, c := range attentionCases() {
		t.Run(fmt.Sprintf("T%d_H%d_G%d_K%d_%d", c.t, c.h, c.g, c.k, len(c.masks)), func(t *testing.T) {
			shape := device.AttnShape{T: c.t, H: c.h, G: c.g, K: c.k, Scale: float32(1 / math.Sqrt(float64(c.k)))}
			q, qs := s.buf(t, device.F32, values(c.t*c.h*c.k, 38))
			k, ks := s.buf(t, device.F32, values(c.t*c.g*c.k, 39))
			v, vs := s.buf(t, device.F32, values(c.t*c.g*c.k, 40))
			dout, grads := s.buf(t, device.F32, values(c.t*c.h*c.k, 41))
			out, lse := s.out(t, c.t*c.h*c.k), s.out(t, c.h*c.t)
			s.d.Attention(out, lse, q, k, v, shape, c.masks)
			rows := []int{0, c.t - 1, c.t / 2}
			width := []int{0, 16, 40}[i%3]
			got, want := newStats(c.t, c.h, 2, width, rows), newStats(c.t, c.h, 2, width, rows)
			s.d.AttnStatistics(got, q, k, v, out, dout, lse, shape, c.masks)
			s.wantStats(want, qs, ks, vs, grads, shape, c.masks)
			s.sameStats(t, got, want)
			plain := &device.AttnStats{Sink: 2, Width: width, Bands: make([]float64, len(got.Bands))}
			s.d.AttnStatistics(plain, q, k, nil, nil, nil, lse, shape, c.masks)
			nearBoth(t, "bands alone", plain.Bands, want.Bands, 1e-4)
		})
	}
}

// sameStats compares all statistics. Where attention is rounded, what is known of its output is too, and slopes are centred on that.
func (s *suite) sameStats(t *testing.T, got, want *device.AttnStats) {
	t.Helper()
	slopes := 2e-4
	if device.BF16Attention(s.d.Class()) {
		slopes = 2e-2
	}
	nearBoth(t, "column sums", got.ColumnSums, want.ColumnSums, 1e-4)
	nearBoth(t, "blocks", got.Blocks, want.Blocks, 1e-4)
	nearBoth(t, "bands", got.Bands, want.Bands, 1e-4)
	nearBoth(t, "influence", got.Influence, want.Influence, slopes)
	nearBoth(t, "drop", got.Drop, want.Drop, slopes)
	nearBoth(t, "drop, magnitudes", got.DropAbs, want.DropAbs, slopes)
	for i, j := range want.ArgMax {
		if got.ArgMax[i] != j || math.Abs(float64(got.Peak[i]-want.Peak[i])) > 1e-5 {
			t.Errorf("peak %d: key %d with %v, want %d with %v", i, got.ArgMax[i], got.Peak[i], j, want.Peak[i])
		}
	}
}

func nearBoth(t *testing.T, what string, got, want []float64, tol float64) {
	t.Helper()
	for i, w := range want {
		if !(math.Abs(got[i]-w) <= tol*max(1, math.Abs(w))) {
			t.Fatalf("%s: [%d] = %v, want %v", what, i, got[i], w)
		}
	}
}

// statsReference fills in want for one head, in float64 over whole rows.
func statsReference(want *device.AttnStats, h int, head num.AttnHead, g num.AttnGrad) {
	n, width := device.AttnBands(head.T, want.Width), want.Width
	if width == 0 {
		width = device.BandKeys
	}
	column, block, band := want.ColumnSums[h*head.T:], want.Blocks[h*n*n:], want.Bands[h*n:]
	attention, slopes, means := make([][]float64, head.T), make([][]float64, head.T), make([]float64, head.T)
	num.AttentionBackReference(nil, nil, nil, head, g, func(i, j int, a, slope, mean float64) {
		if attention[i] == nil {
			attention[i], slopes[i] = make([]float64, head.T), make([]float64, head.T)
		}
		attention[i][j], slopes[i][j], means[i] = a, slope, mean
		column[j] += a
		block[i/width*n+j/width] += a
		if e := a * (slope - mean) / (1 - a); j >= want.Sink {
			band[(i-j)/width] += a
			if a == 1 {
				e = slope
			}
			want.Influence[h*n+(i-j)/width] += math.Abs(e)
		}
	})
	for i, row := range attention {
		for b := 1; b <= i/width; b++ {
			var s, p float64
			for j, a := range row[:i+1] {
				if j < want.Sink || i-j < width*b {
					s += a
					p += a * slopes[i][j]
				}
			}
			want.Drop[h*n+b] += p/s - means[i]
			want.DropAbs[h*n+b] += math.Abs(p/s - means[i])
		}
	}
	for r, i := range want.Rows {
		for j, a := range attention[i] {
			if at := h*len(want.Rows) + r; a > float64(want.Peak[at]) {
				want.ArgMax[at], want.Peak[at] = j, float32(a)
			}
		}
	}
}
