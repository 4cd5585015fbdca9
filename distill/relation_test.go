package distill

import (
	"errors"
	"math"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
)

// relationRows returns the logarithms of the relations of one head, row by row, in float64: columns [h*d, (h+1)*d) of both.
func relationRows(a, b []float64, width, h, d, t int) [][]float64 {
	rows := make([][]float64, t)
	for i := range rows {
		scores := make([]float64, i+1)
		for j := range scores {
			for c := h * d; c < (h+1)*d; c++ {
				scores[j] += a[i*width+c] * b[j*width+c]
			}
		}
		rows[i] = logSoftmax(scores, 1/math.Sqrt(float64(d)))
	}
	return rows
}

// repeated writes each head of dim values of rows x times in a row.
func repeated(x []float64, heads, dim, times, t int) []float64 {
	var out []float64
	for i := range t {
		for h := range heads {
			for range times {
				out = append(out, x[(i*heads+h)*dim:][:dim]...)
			}
		}
	}
	return out
}

// relationReference is the loss of a Relation in float64; a side is its two matrices and their widths.
func relationReference(heads, t int, a, b, ta, tb []float64) float64 {
	ws, wt := len(a)/t, len(ta)/t
	total := 0.0
	for h := range heads {
		s, teacher := relationRows(a, b, ws, h, ws/heads, t), relationRows(ta, tb, wt, h, wt/heads, t)
		for i := range s {
			total += divergence(teacher[i], s[i])
		}
	}
	return total / float64(heads*t)
}

// TestRelation: value and gradient against float64 and central differences: other widths, heads that are split or joined,
// repeated keys, windows shorter and longer than a tile; the same bits for any number of threads.
func TestRelation(t *testing.T) {
	for k, c := range []struct {
		relation, length int
		a, b, ta, tb     [3]int // heads, width, repeat
		same             bool
	}{
		{2, 9, [3]int{2, 4, 1}, [3]int{2, 4, 1}, [3]int{2, 6, 1}, [3]int{2, 6, 1}, false},
		{4, 21, [3]int{2, 8, 0}, [3]int{2, 8, 0}, [3]int{4, 6, 0}, [3]int{4, 6, 0}, true},   // heads split
		{2, 17, [3]int{4, 4, 1}, [3]int{4, 4, 1}, [3]int{2, 10, 1}, [3]int{2, 10, 1}, true}, // heads joined
		{4, 12, [3]int{4, 4, 1}, [3]int{2, 4, 2}, [3]int{4, 6, 1}, [3]int{1, 6, 4}, false},  // grouped keys
		{2, 10, [3]int{4, 4, 1}, [3]int{2, 4, 2}, [3]int{2, 6, 1}, [3]int{1, 6, 2}, false},  // grouped keys joined
		{1, 2*relationTile + 5, [3]int{1, 4, 1}, [3]int{1, 4, 1}, [3]int{1, 2, 1}, [3]int{1, 2, 1}, true},
		{3, 1, [3]int{3, 2, 1}, [3]int{3, 2, 1}, [3]int{3, 2, 1}, [3]int{3, 2, 1}, false},
	} {
		n := uint64(0)
		vectors := func(s [3]int) *Vectors {
			n++
			size := c.length * s[0] * s[1]
			return &Vectors{X: randoms(size, 1.5, 80, uint64(k), n), Heads: s[0], Dim: s[1], Repeat: s[2], Grad: randoms(size, 0.01, 81, n)}
		}
		a, b, ta, tb := vectors(c.a), vectors(c.b), vectors(c.ta), vectors(c.tb)
		ta.Grad, tb.Grad = nil, nil
		if c.same {
			b, tb = a, ta
		}
		wa, wb := wide(a.X), wide(b.X)
		if c.same {
			wb = wa
		}
		full := func(w []float64, v *Vectors) []float64 {
			return repeated(w, v.Heads, v.Dim, max(v.Repeat, 1), c.length)
		}
		r := Relation{Heads: c.relation, Weight: 0.75}
		f := func() float64 {
			return r.Weight * relationReference(r.Heads, c.length, full(wa, a), full(wb, b), full(wide(ta.X), ta), full(wide(tb.X), tb))
		}
		startA, startB := slices.Clone(a.Grad), slices.Clone(b.Grad)
		run := func(threads int) (float64, []float32, []float32) {
			copy(a.Grad, startA)
			copy(b.Grad, startB)
			loss, err := r.Apply(a, b, ta, tb, c.length, cpu.New(threads).For)
			if err != nil {
				t.Fatal(err)
			}
			return loss, slices.Clone(a.Grad), slices.Clone(b.Grad)
		}
		loss, ga, gb := run(1)
		if want := f(); math.Abs(r.Weight*loss-want) > 1e-5*want+1e-9 {
			t.Errorf("case %d: loss %g, want %g", k, r.Weight*loss, want)
		}
		for _, side := range []struct {
			x        []float64
			grad, at []float32
		}{{wa, ga, startA}, {wb, gb, startB}} {
			for i := 0; i < len(side.x); i += 1 + len(side.x)/40 {
				if want := slope(f, side.x, i, 1e-5) + float64(side.at[i]); math.Abs(float64(side.grad[i])-want) > 2e-7+2e-5*math.Abs(want) {
					t.Fatalf("case %d: gradient %d is %g, want %g", k, i, side.grad[i], want)
				}
			}
		}
		for threads := 2; threads < 5; threads++ {
			if l, x, y := run(threads); l != loss || !sameBits(x, ga) || !sameBits(y, gb) {
				t.Errorf("case %d: %d threads give other bits", k, threads)
			}
		}
	}
}

// TestRelationOfTheSame: equal vectors have no loss and no gradient, and neither has a teacher whose vectors are rotated.
func TestRelationOfTheSame(t *testing.T) {
	const length, dim = 70, 6
	x := randoms(length*2*dim, 1, 90)
	s := &Vectors{X: x, Heads: 2, Dim: dim, Grad: make([]float32, len(x))}
	loss, err := Relation{Heads: 2, Weight: 1}.Apply(s, s, &Vectors{X: slices.Clone(x), Heads: 2, Dim: dim}, &Vectors{X: x, Heads: 2, Dim: dim}, length, nil)
	if err != nil || loss != 0 {
		t.Errorf("loss %g (%v)", loss, err)
	}
	for i, g := range s.Grad {
		if g != 0 {
			t.Fatalf("gradient %d is %g", i, g)
		}
	}
	turned := slices.Clone(x)
	for i := 0; i < len(turned); i += 2 {
		turned[i], turned[i+1] = 0.6*x[i]-0.8*x[i+1], 0.8*x[i]+0.6*x[i+1]
	}
	loss, err = Relation{Heads: 2, Weight: 1}.Apply(s, s, &Vectors{X: turned, Heads: 2, Dim: dim}, &Vectors{X: turned, Heads: 2, Dim: dim}, length, nil)
	if err != nil || loss > 1e-10 {
		t.Errorf("turned: loss %g (%v)", loss, err)
	}
}

// headStates returns random states of a layer.
func headStates(t, h, g, dim int, key uint64) *HeadStates {
	s := &HeadStates{T: t, H: h, G: g, Dim: dim}
	for i, x := range []struct {
		x, grad *[]float32
		n       int
	}{{&s.Q, &s.DQ, t * h * dim}, {&s.K, &s.DK, t * g * dim}, {&s.V, &s.DV, t * g * dim}} {
		*x.x, *x.grad = randoms(x.n, 1.5, 100, key, uint64(i)), make([]float32, x.n)
	}
	return s
}

// TestMiniLM: both losses of a grouped student of another shape than its teacher, against their parts in float64.
func TestMiniLM(t *testing.T) {
	const length = 15
	student, teacher := headStates(length, 4, 2, 4, 1), headStates(length, 8, 2, 6, 2)
	q, k, v := wide(student.Q), wide(student.K), wide(student.V)
	tq, tk, tv := wide(teacher.Q), wide(teacher.K), wide(teacher.V)
	parts := func(m MiniLM) MiniLMLoss {
		out := MiniLMLoss{
			QK: relationReference(m.Heads, length, q, repeated(k, 2, 4, 2, length), tq, repeated(tk, 2, 6, 4, length)),
			QQ: relationReference(m.Heads, length, q, q, tq, tq), KK: relationReference(m.KVHeads, length, k, k, tk, tk),
			VV: relationReference(m.KVHeads, length, v, v, tv, tv),
		}
		out.Loss = m.QK*out.QK + m.QQ*out.QQ + m.KK*out.KK + m.VV*out.VV
		return out
	}
	for _, m := range []MiniLM{MiniLMv1(student, teacher), MiniLMv2(student, teacher, 0, 0), MiniLMv2(student, teacher, 8, 4),
		{QK: 0.1, QQ: 0.2, KK: 0.3, VV: 0.4, Heads: 2, KVHeads: 1}} {
		for _, d := range [][]float32{student.DQ, student.DK, student.DV} {
			clear(d)
		}
		got, err := m.Apply(student, teacher, 0.5, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := parts(m)
		for _, c := range [][3]float64{{m.QK, got.QK, want.QK}, {m.QQ, got.QQ, want.QQ}, {m.KK, got.KK, want.KK}, {m.VV, got.VV, want.VV}, {1, got.Loss, want.Loss}} {
			if c[0] == 0 {
				c[2] = 0
			}
			if math.Abs(c[1]-c[2]) > 1e-5*c[2] {
				t.Errorf("%+v: %+v, want %+v", m, got, want)
			}
		}
		f := func() float64 { return 0.5 * parts(m).Loss }
		for _, side := range []struct {
			x    []float64
			grad []float32
		}{{q, student.DQ}, {k, student.DK}, {v, student.DV}} {
			for i := 0; i < len(side.x); i += 1 + len(side.x)/20 {
				if want := slope(f, side.x, i, 1e-5); math.Abs(float64(side.grad[i])-want) > 1e-7+2e-5*math.Abs(want) {
					t.Fatalf("%+v: gradient %d is %g, want %g", m, i, side.grad[i], want)
				}
			}
		}
	}
}

func TestRelationRefuses(t *testing.T) {
	student, teacher := headStates(6, 4, 2, 4, 3), headStates(6, 4, 2, 4, 4)
	for i, m := range []MiniLM{{QQ: 1, Heads: 3}, {QQ: 1}, {VV: 1, Heads: 2, KVHeads: 16}} {
		if _, err := m.Apply(student, teacher, 1, nil); err == nil {
			t.Errorf("case %d: %+v passes", i, m)
		}
	}
	teacher.K[7] = float32(math.NaN())
	if _, err := (MiniLM{KK: 1, KVHeads: 2}).Apply(student, teacher, 1, nil); !errors.Is(err, ErrNotFinite) {
		t.Error(err)
	}
	teacher.T = 5
	if _, err := MiniLMv1(student, teacher).Apply(student, teacher, 1, nil); err == nil {
		t.Error("windows of different lengths pass")
	}
	v := &Vectors{X: make([]float32, 12), Heads: 1, Dim: 4, Grad: make([]float32, 12)}
	wider := &Vectors{X: make([]float32, 24), Heads: 1, Dim: 8, Grad: make([]float32, 24)}
	if _, err := (Relation{Heads: 1}).Apply(v, wider, v, v, 3, nil); err == nil {
		t.Error("vectors of different widths pass")
	}
}
