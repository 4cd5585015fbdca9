package devicetest

import (
	"math"
	"slices"
	"testing"

	"modelpress/internal/device"
)

// quantizer checks what a device.Quantizer does against float64 loops; other devices are passed over.
func (s *suite) quantizer(t *testing.T) {
	q, ok := s.d.(device.Quantizer)
	if !ok {
		return
	}
	t.Run("Gram", func(t *testing.T) { s.grams(t, q) })
	t.Run("Factor", func(t *testing.T) { s.factors(t, q) })
	t.Run("RTN", func(t *testing.T) { s.rtn(t, q) })
	t.Run("GPTQ", func(t *testing.T) { s.gptq(t, q) })
	t.Run("SparseGPT", func(t *testing.T) { s.sparseGPT(t, q) })
	t.Run("Checks", func(t *testing.T) { s.checks(t, q) })
}

// gram adds rows of correlated values up; some columns may be 0. It returns the sums in float64, of both halves.
func (s *suite) gram(t *testing.T, q device.Quantizer, n int, rows []int, dead ...int) (device.Gram, []float64) {
	t.Helper()
	g, err := q.NewGram(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Free)
	h, tokens := make([]float64, n*n), 0
	for k, count := range rows {
		x := values(count*n, uint64(80+k))
		for i := range x {
			if i%n > 0 {
				x[i] += 0.5 * x[i-1]
			}
			if slices.Contains(dead, i%n) {
				x[i] = 0
			}
		}
		var w []float32
		if k%2 == 0 {
			w = values(count, uint64(90+k))
			for i := range w {
				w[i] *= w[i]
			}
		}
		b, xs := s.buf(t, device.F32, x)
		g.Add(b, count, w)
		tokens += count
		for i := range count {
			f := 1.0
			if w != nil {
				f = float64(w[i])
			}
			for a := range n {
				for b := range n {
					h[a*n+b] += f * float64(xs[i*n+a]) * float64(xs[i*n+b])
				}
			}
		}
	}
	g.Finish(2 / float64(tokens))
	for i := range h {
		h[i] *= 2 / float64(tokens)
	}
	return g, h
}

// grams: the sums, and tr((x-y)·H·(x-y)ᵀ).
func (s *suite) grams(t *testing.T, q device.Quantizer) {
	for _, c := range []struct {
		n    int
		rows []int
	}{{1, []int{3}}, {37, []int{5, 1100, 7}}, {300, []int{40, 3}}} {
		g, want := s.gram(t, q, c.n, c.rows)
		got := make([]float64, c.n*c.n)
		g.Download(got)
		for i := range c.n {
			for j := range i + 1 {
				if d := math.Abs(got[i*c.n+j] - want[i*c.n+j]); !(d <= 3e-6*math.Sqrt(want[i*c.n+i]*want[j*c.n+j])) {
					t.Fatalf("width %d: [%d, %d] = %v, want %v", c.n, i, j, got[i*c.n+j], want[i*c.n+j])
				}
			}
		}
		for i, d := range g.Diagonal() {
			if d != got[i*c.n+i] {
				t.Fatalf("width %d: diagonal %d is %v, want %v", c.n, i, d, got[i*c.n+i])
			}
		}
		for _, kind := range kinds {
			const out = 5
			x, xs := s.buf(t, kind, values(out*c.n, 85))
			y, ys := s.buf(t, kinds[(kind+1)%3], values(out*c.n, 86))
			sameEnergy(t, g.Energy(x, nil, out), xs, want, c.n)
			e := make([]float32, len(xs))
			for i := range e {
				e[i] = xs[i] - ys[i]
			}
			sameEnergy(t, g.Energy(x, y, out), e, want, c.n)
		}
	}
}

func sameEnergy(t *testing.T, got float64, x []float32, h []float64, n int) {
	t.Helper()
	var want float64
	for r := 0; r < len(x); r += n {
		for i := range n {
			for j := range n {
				want += float64(x[r+i]) * h[i*n+j] * float64(x[r+j])
			}
		}
	}
	if math.Abs(got-want) > 1e-5*want {
		t.Errorf("energy of width %d: %v, want %v", n, got, want)
	}
}

// factors: what is positive definite and what is not, and that the sums outlive it.
func (s *suite) factors(t *testing.T, q device.Quantizer) {
	const n = 330
	g, _ := s.gram(t, q, n, []int{n + 20})
	before, after := make([]float64, n*n), make([]float64, n*n)
	g.Download(before)
	d, dead := g.Diagonal(), make([]bool, n)
	if !g.Factor(nil, d, dead) {
		t.Error("a positive definite matrix has no factor")
	}
	for _, at := range []int{0, 1, 63, 64, 200, n - 1} {
		for _, v := range []float64{-1, 0, math.NaN(), math.Inf(1)} {
			bad := slices.Clone(d)
			if bad[at] = v; g.Factor(nil, bad, dead) {
				t.Errorf("%v at %d: a factor", v, at)
			}
		}
	}
	g.Download(after)
	for i := range n {
		if !slices.Equal(before[i*n:][:i+1], after[i*n:][:i+1]) {
			t.Fatalf("row %d changed", i)
		}
	}
}

// checks: the first element that is not finite, and distances.
func (s *suite) checks(t *testing.T, q device.Quantizer) {
	const rows, n = 9, 70
	for _, kind := range kinds {
		v := values(rows*n, 87)
		a, as := s.buf(t, kind, v)
		b, bs := s.buf(t, device.F32, values(rows*n, 88))
		far, size := q.Distance(a, b, rows, n)
		var wantFar, wantSize float64
		for i := range as {
			d := float64(as[i]) - float64(bs[i])
			wantFar, wantSize = wantFar+d*d, wantSize+float64(as[i])*float64(as[i])
		}
		if math.Abs(far-wantFar) > 1e-12*wantFar || math.Abs(size-wantSize) > 1e-12*wantSize {
			t.Errorf("distance %v of %v, want %v of %v", far, size, wantFar, wantSize)
		}
		if i := q.NotFinite(a, rows, n); i != -1 {
			t.Errorf("element %d is finite", i)
		}
		v[3*n+69], v[3*n+40], v[5*n] = float32(math.NaN()), float32(math.Inf(-1)), float32(math.Inf(1))
		q.Upload(a, 0, v)
		if i := q.NotFinite(a, rows, n); i != 3*n+40 {
			t.Errorf("first element %d, want %d", i, 3*n+40)
		}
	}
	g, h := s.gram(t, q, 80, []int{90})
	if row, col, _, found := g.NotFinite(); found {
		t.Errorf("[%d, %d] is finite", row, col)
	}
	h[70*80+3], h[40*80+40], h[40*80+50], h[2*80+5] = math.NaN(), math.Inf(-1), math.Inf(1), math.NaN()
	g.Upload(h)
	if row, col, v, found := g.NotFinite(); !found || row != 40 || col != 40 || !math.IsInf(v, -1) {
		t.Errorf("[%d, %d] = %v, %t", row, col, v, found)
	}
}
