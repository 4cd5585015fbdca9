package devicetest

import (
	"fmt"
	"math"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// statsCase is an attention of several tiles and bands; peaked scores give attention near 1.
type statsCase struct {
	attentionCase
	width, sink int
	scale       float64 // of scores, beside 1/sqrt(K)
}

// bandCases are small: bands of widths that are no multiples of a tile and others, more channels than two panels have, sinks in the middle
// of a tile.
func bandCases() []statsCase {
	return []statsCase{
		{attentionCase{200, 2, 1, 40, []device.Mask{{Sink: 70, Recent: 90}}}, 24, 2, 1},
		{attentionCase{135, 1, 1, 130, nil}, 64, 4, 1},
		{attentionCase{70, 2, 2, 8, []device.Mask{{Sink: 3, Recent: 30}, {}}}, 1, 3, 2},
		{attentionCase{130, 1, 1, 12, nil}, 1000, 200, 1},
		{attentionCase{129, 2, 1, 72, nil}, 100, 70, 2},
		{attentionCase{65, 1, 1, 16, []device.Mask{{Recent: 1}}}, 16, 0, 1},
	}
}

// longCases are larger than an emulated device can do in a test's time.
func longCases() []statsCase {
	full := device.Mask{}
	return []statsCase{
		{attentionCase{700, 4, 2, 64, []device.Mask{full, {Sink: 4, Recent: 300}}}, 24, 2, 1},
		{attentionCase{700, 2, 1, 32, nil}, 64, 4, 1},
		{attentionCase{700, 2, 2, 16, []device.Mask{{Recent: 200}, {Sink: 70, Recent: 90}}}, 100, 70, 1},
		{attentionCase{700, 3, 1, 24, nil}, 128, 0, 2},
		{attentionCase{700, 1, 1, 256, nil}, 7, 300, 1},
		{attentionCase{321, 2, 1, 128, nil}, 40, 1, 1},
		{attentionCase{1500, 1, 1, 8, []device.Mask{{Sink: 100, Recent: 1000}}}, 333, 10, 1},
	}
}

// attnStatisticsBands: statistics of several tiles, and each one asked for alone.
func (s *suite) attnStatisticsBands(t *testing.T) {
	for _, c := range bandCases() {
		s.statsCase(t, c)
	}
}

// LongStatistics checks statistics of attention over some hundred positions, in bands of several widths.
func LongStatistics(t *testing.T, d device.Device) {
	s := &suite{d: d}
	for _, c := range longCases() {
		s.statsCase(t, c)
	}
}

func (s *suite) statsCase(t *testing.T, c statsCase) {
	t.Run(fmt.Sprintf("T%d_H%d_G%d_K%d_W%d_S%d", c.t, c.h, c.g, c.k, c.width, c.sink), func(t *testing.T) {
		shape := device.AttnShape{T: c.t, H: c.h, G: c.g, K: c.k, Scale: float32(c.scale / math.Sqrt(float64(c.k)))}
		q, qs := s.buf(t, device.F32, values(c.t*c.h*c.k, 61))
		k, ks := s.buf(t, device.F32, values(c.t*c.g*c.k, 62))
		v, vs := s.buf(t, device.F32, values(c.t*c.g*c.k, 63))
		dout, grads := s.buf(t, device.F32, values(c.t*c.h*c.k, 64))
		out, lse := s.out(t, c.t*c.h*c.k), s.out(t, c.h*c.t)
		s.d.Attention(out, lse, q, k, v, shape, c.masks)
		rows := []int{c.t - 1, c.t - 1, 0, c.t / 3, 64, 63, c.t / 2, c.t / 5, 1}
		got, want := newStats(c.t, c.h, c.sink, c.width, rows), newStats(c.t, c.h, c.sink, c.width, rows)
		s.d.AttnStatistics(got, q, k, v, out, dout, lse, shape, c.masks)
		s.wantStats(want, qs, ks, vs, grads, shape, c.masks)
		s.sameStats(t, got, want)
		for _, one := range alone(got) {
			s.d.AttnStatistics(one, q, k, v, out, dout, lse, shape, c.masks)
			equalStats(t, one, got)
		}
	})
}

// wantStats fills in want from what attention multiplies: where that is rounded, rounded values.
func (s *suite) wantStats(want *device.AttnStats, q, k, v, dout []float32, shape device.AttnShape, masks []device.Mask) {
	if device.BF16Attention(s.d.Class()) {
		q, k, v, dout = rounded(q), rounded(k), rounded(v), rounded(dout)
	}
	for h := range shape.H {
		statsReference(want, h, referenceHead(q, k, v, shape, masks, h), num.AttnGrad{DOut: dout[h*shape.K:], LDO: shape.H * shape.K})
	}
}

// rounded returns values rounded to bfloat16.
func rounded(x []float32) []float32 {
	y := make([]uint16, len(x))
	num.F32ToBF16(y, x)
	out := make([]float32, len(x))
	num.BF16ToF32(out, y)
	return out
}

// alone asks for each statistic of st by itself, in slices that do not start as zeros.
func alone(st *device.AttnStats) []*device.AttnStats {
	ones := func(v []float64) []float64 {
		w := make([]float64, len(v))
		for i := range w {
			w[i] = 1
		}
		return w
	}
	list := []*device.AttnStats{{ColumnSums: ones(st.ColumnSums)}, {Blocks: ones(st.Blocks)}, {Bands: ones(st.Bands)},
		{Influence: ones(st.Influence)}, {Drop: ones(st.Drop)}, {DropAbs: ones(st.DropAbs)},
		{Rows: st.Rows, ArgMax: make([]int, len(st.ArgMax))}}
	for _, s := range list {
		s.Width, s.Sink = st.Width, st.Sink
	}
	return list
}

// equalStats fails where what st was asked for has not the bits that it has in all.
func equalStats(t *testing.T, st, all *device.AttnStats) {
	t.Helper()
	for i, v := range [][2][]float64{{st.ColumnSums, all.ColumnSums}, {st.Blocks, all.Blocks}, {st.Bands, all.Bands},
		{st.Influence, all.Influence}, {st.Drop, all.Drop}, {st.DropAbs, all.DropAbs}} {
		for j, x := range v[0] {
			if math.Float64bits(x) != math.Float64bits(v[1][j]) {
				t.Fatalf("statistic %d alone: [%d] = %v, with all others %v", i, j, x, v[1][j])
			}
		}
	}
	for i, at := range st.ArgMax {
		if at != all.ArgMax[i] {
			t.Fatalf("peak %d alone: key %d, with all others %d", i, at, all.ArgMax[i])
		}
	}
}
