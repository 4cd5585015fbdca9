package devicetest

import (
	"fmt"
	"math"
	"testing"

	"modelpress/internal/device"
)

type attentionCase struct {
	t, h, g, k int
	masks      []device.Mask
}

func attentionCases() []attentionCase {
	full, wide := device.Mask{}, device.Mask{Sink: 1000, Recent: 1}
	return []attentionCase{
		{1, 1, 1, 2, nil},
		{1, 4, 2, 8, []device.Mask{{Sink: 4, Recent: 4}, full}},
		{7, 3, 3, 5, nil},
		{33, 8, 2, 16, nil},
		{33, 2, 1, 16, []device.Mask{{Recent: 1}}},
		{33, 2, 2, 16, []device.Mask{{Sink: 4, Recent: 1}, {Recent: 8}}},
		{65, 6, 3, 32, []device.Mask{full, {Sink: 2, Recent: 7}, wide}},
		{200, 4, 2, 64, []device.Mask{{Sink: 4, Recent: 64}, {Recent: 150}}},
		{401, 1, 1, 24, nil},
		{600, 2, 2, 6, []device.Mask{{Sink: 4, Recent: 64}, {Sink: 130, Recent: 20}}},
	}
}

// tileCases lie at the borders of tiles of 16 to 128 rows, with head dims that fill them or do not; sinks and recent keys touch, overlap or
// leave gaps.
func tileCases() []attentionCase {
	return []attentionCase{
		{63, 2, 1, 64, nil},
		{64, 2, 2, 96, []device.Mask{{Sink: 16, Recent: 16}, {Recent: 33}}},
		{65, 4, 1, 128, []device.Mask{{Sink: 1, Recent: 64}}},
		{128, 1, 1, 256, []device.Mask{{Sink: 64, Recent: 64}}},
		{129, 2, 1, 128, []device.Mask{{Sink: 65, Recent: 63}}},
		{129, 2, 2, 200, []device.Mask{{Sink: 3, Recent: 20}, {}}},
		{257, 3, 1, 64, []device.Mask{{Sink: 70, Recent: 40}}},
		{257, 2, 2, 96, []device.Mask{{Sink: 130, Recent: 140}, {Recent: 65}}},
	}
}

// nearAttention is near; where attention rounds what it multiplies, results may be off by 2 in 100 of the largest, or of 0.001
// where all are smaller.
func (s *suite) nearAttention(t testing.TB, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if !device.BF16Attention(s.d.Class()) {
		near(t, what, got, want, tol)
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	largest := 1e-3
	for _, w := range want {
		largest = max(largest, math.Abs(w))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= 2e-2*largest) {
			t.Fatalf("%s: [%d] = %v, want %v, of at most %v", what, i, got[i], w, largest)
		}
	}
}

// attention: outputs, log-sum-exp and column sums of every shape and mask, and the same results without the lse.
func (s *suite) attention(t *testing.T) {
	for _, c := range append(attentionCases(), tileCases()...) {
		t.Run(fmt.Sprintf("T%d_H%d_G%d_K%d_%d", c.t, c.h, c.g, c.k, len(c.masks)), func(t *testing.T) {
			shape := device.AttnShape{T: c.t, H: c.h, G: c.g, K: c.k, Scale: float32(1 / math.Sqrt(float64(c.k)))}
			q, qs := s.buf(t, device.F32, values(c.t*c.h*c.k, 18))
			k, ks := s.buf(t, device.F32, values(c.t*c.g*c.k, 19))
			v, vs := s.buf(t, device.F32, values(c.t*c.g*c.k, 20))
			out, lse, sums := s.out(t, c.t*c.h*c.k), s.out(t, c.h*c.t), s.out(t, c.h*c.t)
			s.d.Attention(out, lse, q, k, v, shape, c.masks)
			s.d.AttnColumnSums(sums, q, k, lse, shape, c.masks)
			wantOut, wantLSE, wantSums := reference(qs, ks, vs, shape, c.masks)
			got := s.result(t, out, len(wantOut))
			s.nearAttention(t, "out", got, wantOut, 5e-6)
			s.nearAttention(t, "lse", s.result(t, lse, len(wantLSE)), wantLSE, 5e-6)
			s.nearAttention(t, "column sums", s.result(t, sums, len(wantSums)), wantSums, 2e-5)
			again := s.out(t, c.t*c.h*c.k)
			s.d.Attention(again, nil, q, k, v, shape, c.masks)
			same(t, s.result(t, again, len(got)), got)
		})
	}
}

// reference computes attention query by query in float64.
func reference(q, k, v []float32, s device.AttnShape, masks []device.Mask) (out, lse, sums []float64) {
	out, lse, sums = make([]float64, s.T*s.H*s.K), make([]float64, s.H*s.T), make([]float64, s.H*s.T)
	for h := range s.H {
		g := h / (s.H / s.G)
		for i := range s.T {
			p := make([]float64, i+1)
			total := 0.0
			for j := range p {
				if masks != nil && !masks[g].Full() && j >= masks[g].Sink && i-j >= masks[g].Recent {
					continue
				}
				dot := 0.0
				for c := range s.K {
					dot += float64(q[(i*s.H+h)*s.K+c]) * float64(k[(j*s.G+g)*s.K+c])
				}
				p[j] = math.Exp(dot * float64(s.Scale))
				total += p[j]
			}
			lse[h*s.T+i] = math.Log(total)
			for j, e := range p {
				sums[h*s.T+j] += e / total
				for c := range s.K {
					out[(i*s.H+h)*s.K+c] += e / total * float64(v[(j*s.G+g)*s.K+c])
				}
			}
		}
	}
	return out, lse, sums
}

// everything runs each operation on sizes that split into several tasks and returns all results.
func (s *suite) everything(t *testing.T) []float32 {
	const n, h, g, k = 700, 4, 2, 16
	const d = h * k
	var all []float32
	keep := func(b device.Buf) { all = append(all, s.read(b)...) }
	x, _ := s.buf(t, device.F32, values(n*d, 21))
	w, _ := s.buf(t, device.F32, values(d, 22))
	y := s.out(t, n*d)
	for _, kind := range kinds {
		m, _ := s.buf(t, kind, values(d*d, 23))
		s.d.MatMulNT(y, x, m, n, d, d, 1)
		keep(y)
	}
	for _, kind := range kinds {
		m, _ := s.buf(t, kind, values(d*d, 27))
		s.d.MatMulNN(y, x, m, n, d, d, 1)
		keep(y)
	}
	all = append(all, s.trained(t, y, x, n, d)...)
	all = append(all, s.wideNorms(t, x)...)
	all = append(all, s.lossBits(t, x)...)
	s.d.RMSNormBack(y, y, x, w, n, d, d, 1e-5)
	keep(y)
	s.d.LayerNormBack(y, y, x, w, n, d, d, 1e-5)
	s.d.GELUBack(y, y, x, n*d, true)
	keep(y)
	z := s.out(t, n*d)
	s.d.SiLUMulBack(y, z, x, x, y, n*d)
	keep(y)
	keep(z)
	gates := make([]float64, g)
	s.d.MixSlopes(gates, x, y, z, device.AttnShape{T: n, H: h, G: g, K: k})
	all = append(all, float32(gates[0]), float32(gates[1]))
	s.d.RMSNorm(y, x, w, n, d, d, 1e-5)
	keep(y)
	s.d.LayerNorm(y, x, w, w, n, d, d-0.5, 1e-5)
	s.d.AddBias(y, w, n, d)
	s.d.Add(y, x, n*d)
	keep(y)
	s.d.SiLUMul(y, y, x, n*d)
	s.d.GELU(y, y, n*d, true)
	s.d.GELU(y, y, n*d, false)
	keep(y)
	q, _ := s.buf(t, device.F32, values(n*d, 24))
	kv, _ := s.buf(t, device.F32, values(n*g*k, 25))
	angles := values(n*k/2, 26)
	s.d.RoPE(q, n, h, k, angles, angles)
	lse, sums := s.out(t, h*n), s.out(t, h*n)
	shape := device.AttnShape{T: n, H: h, G: g, K: k, Scale: 0.25}
	for _, masks := range [][]device.Mask{nil, {{Sink: 4, Recent: 64}, {}}} {
		s.d.Attention(y, lse, q, kv, kv, shape, masks)
		s.d.AttnColumnSums(sums, q, kv, lse, shape, masks)
		keep(y)
		keep(lse)
		keep(sums)
		dq, dk, dv := s.out(t, n*d), s.out(t, n*g*k), s.out(t, n*g*k)
		s.d.AttentionBack(dq, dk, dv, x, q, kv, kv, y, lse, shape, masks)
		keep(dq)
		keep(dk)
		keep(dv)
		stats := newStats(n, h, 3, 24, []int{n - 1, 90})
		s.d.AttnStatistics(stats, q, kv, kv, y, x, lse, shape, masks)
		for _, v := range [][]float64{stats.ColumnSums, stats.Blocks, stats.Bands, stats.Influence, stats.Drop, stats.DropAbs} {
			for _, f := range v {
				all = append(all, float32(f))
			}
		}
		all = append(all, stats.Peak...)
	}
	return all
}
