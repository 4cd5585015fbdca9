package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/device"
)

// readCase is an attention whose parts are read off, and what plain loops read of it.
type readCase struct {
	d                   device.AttnReader
	want                plainAttn
	q, k, v, lse, other device.Buf
	queries, others     []float32 // on the host, of q and other as they are
}

// attnRead checks what a device.AttnReader does against plain loops; other devices are passed over.
func (s *suite) attnRead(t *testing.T) {
	d, ok := s.d.(device.AttnReader)
	if !ok {
		t.Skip("reads off no attention")
	}
	full := device.Mask{}
	for i, c := range []attentionCase{
		{1, 1, 1, 2, nil}, {70, 4, 2, 16, []device.Mask{{Sink: 3, Recent: 20}, full}}, {131, 6, 3, 40, nil}, {200, 2, 1, 130, []device.Mask{{Recent: 65}}},
	} {
		t.Run(fmt.Sprintf("T%d_H%d_G%d_K%d", c.t, c.h, c.g, c.k), func(t *testing.T) {
			x := s.readCase(t, d, c, uint64(10*i), 1)
			t.Run("Rows", x.rows)
			t.Run("Mass", x.mass)
			t.Run("Over", x.over)
			t.Run("Gaps", x.gaps)
			other := c
			other.g, other.k, other.masks = c.h, c.k+3, nil
			t.Run("Likeness", func(t *testing.T) { x.likeness(t, s.readCase(t, d, other, uint64(10*i+5), 0.3)) })
		})
	}
}

// readCase draws an attention. Where a device rounds what attention multiplies, so do the plain loops.
func (s *suite) readCase(t *testing.T, d device.AttnReader, c attentionCase, seed uint64, scale float64) *readCase {
	shape := device.AttnShape{T: c.t, H: c.h, G: c.g, K: c.k, Scale: float32(scale / math.Sqrt(float64(c.k)))}
	x := &readCase{d: d, want: plainAttn{s: shape, masks: c.masks}}
	draw := func(n int, seed uint64) (device.Buf, []float32) {
		return s.buf(t, device.F32, values(n, seed))
	}
	x.q, x.want.q = draw(c.t*c.h*c.k, seed)
	x.k, x.want.k = draw(c.t*c.g*c.k, seed+1)
	x.v, x.want.v = draw(c.t*c.g*c.k, seed+2)
	x.other, x.others = draw(c.t*c.h*c.k, seed+3)
	x.queries = x.want.q
	if device.BF16Attention(s.d.Class()) {
		x.want.q, x.want.k, x.want.v = rounded(x.want.q), rounded(x.want.k), rounded(x.want.v)
	}
	_, lse, _ := reference(x.want.q, x.want.k, x.want.v, shape, c.masks)
	for _, v := range lse {
		x.want.lse = append(x.want.lse, float32(v))
	}
	x.lse, _ = s.buf(t, device.F32, x.want.lse)
	return x
}

func (x *readCase) someRows() []int {
	t := x.want.s.T
	return []int{t - 1, 0, t / 2, t - 1, t / 3, min(64, t-1), min(63, t-1), t / 7, t / 5}
}

func (x *readCase) rows(t *testing.T) {
	rows := x.someRows()
	got, want := make([]float32, x.want.s.H*len(rows)*x.want.s.T), make([]float32, x.want.s.H*len(rows)*x.want.s.T)
	x.d.AttnRows(got, rows, x.q, x.k, x.lse, x.want.s, x.want.masks)
	x.want.rows(want, rows)
	near(t, "rows", got, wide(want), 2e-5)
}

func (x *readCase) mass(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, uint64(x.want.s.T)))
	var spans []device.AttnSpan
	var ends []int
	for g := range 40 {
		for range g % 5 * g % 37 {
			i := int32(rng.IntN(x.want.s.T))
			lo := int32(rng.IntN(x.want.s.T))
			spans = append(spans, device.AttnSpan{Row: i, Lo: lo, Hi: lo + int32(rng.IntN(x.want.s.T-int(lo)+1))})
		}
		ends = append(ends, len(spans))
	}
	got, want := make([]float64, x.want.s.H*len(ends)), make([]float64, x.want.s.H*len(ends))
	x.d.AttnMass(got, spans, ends, x.q, x.k, x.lse, x.want.s, x.want.masks)
	x.want.mass(want, spans, ends)
	nearBoth(t, "mass", got, want, 2e-5)
	x.d.AttnMass(nil, nil, nil, x.q, x.k, x.lse, x.want.s, x.want.masks)
}

func (x *readCase) over(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, uint64(x.want.s.T)))
	rows, words := x.someRows(), device.AttnWords(x.want.s.T)
	seen := make([]uint64, x.want.s.H*len(rows)*words)
	for i := range seen {
		if seen[i] = rng.Uint64(); i%3 == 0 {
			seen[i] = 1 << rng.IntN(64)
		}
	}
	clear(seen[:words]) // a row that sees nothing
	results := func() ([]float32, []float32) {
		return make([]float32, len(rows)*x.want.s.H*x.want.s.K), make([]float32, x.want.s.H*len(rows))
	}
	out, lse := results()
	wantOut, wantLSE := results()
	x.d.AttnOver(out, lse, seen, rows, x.q, x.k, x.v, x.want.s)
	x.want.over(wantOut, wantLSE, seen, rows)
	near(t, "out", out, wide(wantOut), 1e-5)
	for i, v := range wantLSE {
		if math.IsInf(float64(v), -1) != math.IsInf(float64(lse[i]), -1) || !(math.Abs(float64(lse[i]-v)) <= 1e-5) && !math.IsInf(float64(v), -1) {
			t.Fatalf("lse %d is %v, want %v", i, lse[i], v)
		}
	}
}

func (x *readCase) gaps(t *testing.T) {
	for _, from := range []int{0, x.want.s.T / 3, x.want.s.T} {
		f := func() []float64 { return make([]float64, x.want.s.H) }
		gap, size, wantGap, wantSize := f(), f(), f(), f()
		x.d.HeadGaps(gap, size, x.q, x.other, from, x.want.s)
		plainGaps(wantGap, wantSize, x.queries, x.others, from, x.want.s)
		nearBoth(t, "gaps", gap, wantGap, 1e-12)
		nearBoth(t, "sizes", size, wantSize, 1e-12)
	}
}

func (x *readCase) likeness(t *testing.T, y *readCase) {
	input := func(c *readCase) device.AttnInput {
		return device.AttnInput{Q: c.q, K: c.k, LSE: c.lse, Shape: c.want.s, Masks: c.want.masks}
	}
	got, want := make([][3]float64, x.want.s.H), make([][3]float64, x.want.s.H)
	for i := range got {
		got[i][0] = 5 // is overwritten
	}
	x.d.AttnLikeness(got, input(x), input(y))
	x.want.likeness(want, &y.want)
	for h := range want {
		nearBoth(t, fmt.Sprint("likeness of head ", h), got[h][:], want[h][:], 5e-5)
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
