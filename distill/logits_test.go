package distill

import (
	"errors"
	"math"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/num"
)

// logSoftmax is the definition in float64.
func logSoftmax(x []float64, scale float64) []float64 {
	top := math.Inf(-1)
	for _, v := range x {
		top = math.Max(top, v*scale)
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(v*scale - top)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v*scale - top - math.Log(sum)
	}
	return out
}

// divergence is KL(p ‖ q) from logarithms.
func divergence(p, q []float64) float64 {
	kl := 0.0
	for i, l := range p {
		if !math.IsInf(l, -1) {
			kl += math.Exp(l) * (l - q[i])
		}
	}
	return kl
}

// logitReference is the loss of LogitLoss in float64.
func logitReference(l LogitLoss, s, t []float64, targets []int32, rows, v int) float64 {
	kl, ce, counted := 0.0, 0.0, 0
	for i := range rows {
		a := s[i*v:][:v]
		if l.KL != 0 {
			kl += divergence(logSoftmax(t[i*v:][:v], 1/l.temperature()), logSoftmax(a, 1/l.temperature()))
		}
		if l.CE != 0 && targets[i] >= 0 {
			ce -= logSoftmax(a, 1)[targets[i]]
			counted++
		}
	}
	tau := l.temperature()
	return l.KL*tau*tau*kl/float64(orDefault(l.Rows, rows)) + l.CE*ce/float64(orDefault(l.Targets, counted))
}

// slope is the derivative of f by x[i] by central differences.
func slope(f func() float64, x []float64, i int, h float64) float64 {
	old := x[i]
	x[i] = old + h
	up := f()
	x[i] = old - h
	down := f()
	x[i] = old
	return (up - down) / (2 * h)
}

func wide(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// randoms returns n values with the given deviation and mean 0.
func randoms(n int, dev float64, key ...uint64) []float32 {
	s, out := newStream(key...), make([]float32, n)
	for i := range out {
		u := math.Max(s.uniform(uint64(2*i)), 1e-12)
		out[i] = float32(dev * math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*s.uniform(uint64(2*i+1))))
	}
	return out
}

// TestLogitLoss: value and gradient against float64 and central differences of it, for all parts and temperatures, rows shorter
// and longer than a block, the same bits for any number of threads.
func TestLogitLoss(t *testing.T) {
	for k, c := range []struct {
		l       LogitLoss
		rows, v int
	}{
		{LogitLoss{KL: 1}, 3, 7},
		{LogitLoss{KL: 1, Temperature: 2}, 5, rowBlock + 9},
		{LogitLoss{KL: 0.5, Temperature: 0.7, CE: 0.25}, 4, 2*rowBlock + 1},
		{LogitLoss{CE: 1}, 6, 33},
		{LogitLoss{KL: 2, CE: 1, Rows: 10, Targets: 7}, 2, rowBlock},
		{LogitLoss{KL: 1}, 1, 1},
	} {
		s, teacher := randoms(c.rows*c.v, 3, 1, uint64(k)), randoms(c.rows*c.v, 3, 2, uint64(k))
		targets := make([]int32, c.rows)
		for i := range targets {
			targets[i] = int32((i*31 + 5) % c.v)
		}
		targets[c.rows-1] = -1
		before, kept := wide(s), slices.Clone(teacher)
		f := func() float64 { return logitReference(c.l, before, wide(teacher), targets, c.rows, c.v) }
		grad := slices.Clone(s)
		got, err := c.l.Apply(grad, teacher, targets, c.rows, c.v, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := f(); math.Abs(got.Loss-want) > 2e-6*math.Max(1, want) {
			t.Errorf("case %d: loss %g, want %g", k, got.Loss, want)
		}
		if !slices.Equal(teacher, kept) {
			t.Errorf("case %d: the teacher's logits changed", k)
		}
		for i := range grad {
			if i > 40 && i%97 != 0 && i%c.v != int(targets[i/c.v]) {
				continue
			}
			if want := slope(f, before, i, 1e-4); math.Abs(float64(grad[i])-want) > 1e-7+2e-5*math.Abs(want) {
				t.Fatalf("case %d: gradient %d is %g, want %g", k, i, grad[i], want)
			}
		}
		for threads := 2; threads < 5; threads++ {
			again := slices.Clone(s)
			sums, err := c.l.Apply(again, teacher, targets, c.rows, c.v, cpu.New(threads).For)
			if err != nil || sums != got || !sameBits(again, grad) {
				t.Errorf("case %d: %d threads give other bits (%v)", k, threads, err)
			}
		}
	}
}

// TestLogitLossInParts: rows in several calls, with the totals given, add up to the whole.
func TestLogitLossInParts(t *testing.T) {
	const rows, v = 7, 50
	s, teacher := randoms(rows*v, 2, 3), randoms(rows*v, 2, 4)
	targets := []int32{1, 2, -1, 4, 49, -1, 0}
	whole, l := slices.Clone(s), LogitLoss{KL: 1, CE: 0.5, Temperature: 1.5}
	want, err := l.Apply(whole, teacher, targets, rows, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Rows, l.Targets = rows, 5
	var sums LogitSums
	for _, p := range [][2]int{{0, 3}, {3, 3}, {6, 1}} {
		lo, n := p[0], p[1]
		part, err := l.Apply(s[lo*v:], teacher[lo*v:], targets[lo:], n, v, nil)
		if err != nil {
			t.Fatal(err)
		}
		sums.Add(part)
	}
	if !sameBits(s, whole) || sums.Rows != rows || sums.Targets != 5 || !near(sums.Loss, want.Loss, 1e-14) || !near(sums.KL, want.KL, 1e-14) {
		t.Errorf("parts give %+v, the whole %+v", sums, want)
	}
}

// TestSameLogits: a student that is the teacher has a loss of exactly 0, and no gradient.
func TestSameLogits(t *testing.T) {
	const rows, v = 3, 3000
	s := randoms(rows*v, 5, 9)
	teacher := slices.Clone(s)
	got, err := LogitLoss{KL: 1, Temperature: 3}.Apply(s, teacher, nil, rows, v, nil)
	if err != nil || got.Loss != 0 {
		t.Errorf("loss %g, %v", got.Loss, err)
	}
	for i, g := range s {
		if g != 0 {
			t.Fatalf("gradient %d is %g", i, g)
		}
	}
}

// TestCloseLogits: a divergence far below the resolution of the sums is still right, and never negative.
func TestCloseLogits(t *testing.T) {
	const v = 20000
	for k, shift := range []float32{1e-3, 1e-4, 1e-5} {
		teacher := randoms(v, 2, 10, uint64(k))
		s := slices.Clone(teacher)
		for i, d := range randoms(v, 1, 11, uint64(k)) {
			s[i] += d * shift
		}
		want := divergence(logSoftmax(wide(teacher), 1), logSoftmax(wide(s), 1))
		got, err := LogitLoss{KL: 1}.Apply(s, teacher, nil, 1, v, nil)
		if err != nil || got.KL < 0 || math.Abs(got.KL-want) > 1e-3*want {
			t.Errorf("shift %g: %g, want %g (%v)", shift, got.KL, want, err)
		}
	}
}

// TestCrossEntropy: the same as by num's softmax.
func TestCrossEntropy(t *testing.T) {
	const rows, v = 4, 101
	s := randoms(rows*v, 4, 12)
	want, targets := slices.Clone(s), []int32{0, 100, 50, 7}
	loss := 0.0
	for i, target := range targets {
		row := want[i*v:][:v]
		loss += (num.LogSumExp(row) - float64(row[target])) / rows
		num.Softmax(row, row)
		row[target]--
		num.Scale(row, 1.0/rows)
	}
	got, err := CrossEntropy(s, targets, rows, v, nil)
	if err != nil || !near(got.Loss, loss, 1e-6) || got.Targets != rows {
		t.Errorf("%+v, want %g (%v)", got, loss, err)
	}
	for i, g := range s {
		if math.Abs(float64(g-want[i])) > 1e-7 {
			t.Fatalf("gradient %d is %g, want %g", i, g, want[i])
		}
	}
}

// TestMaskedLogits: tokens that neither model can say have no part; those that only the teacher says make the loss infinite.
func TestMaskedLogits(t *testing.T) {
	inf := float32(math.Inf(-1))
	s, teacher := []float32{1, inf, 2, 0.5}, []float32{0.3, inf, 1, 2}
	want := divergence(logSoftmax([]float64{0.3, 1, 2}, 1), logSoftmax([]float64{1, 2, 0.5}, 1))
	got, err := LogitLoss{KL: 1}.Apply(s, teacher, nil, 1, 4, nil)
	if err != nil || math.Abs(got.KL-want) > 1e-6 || s[1] != 0 {
		t.Errorf("%g, want %g, gradient %v (%v)", got.KL, want, s, err)
	}
}

func TestLogitsThatAreNotFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for i, c := range []struct{ s, t []float32 }{
		{[]float32{1, nan, 2}, []float32{1, 2, 3}}, {[]float32{1, 3, 2}, []float32{1, nan, 3}},
		{[]float32{1, 3, inf}, []float32{1, 2, 3}}, {[]float32{1, 3, 2}, []float32{inf, 2, 3}},
		{[]float32{-inf, 1, 2}, []float32{1, 2, 3}}, {[]float32{-inf, -inf, -inf}, []float32{1, 2, 3}},
	} {
		s := slices.Concat([]float32{1, 2, 3}, c.s)
		if _, err := (LogitLoss{KL: 1}).Apply(s, slices.Concat([]float32{1, 2, 3}, c.t), nil, 2, 3, nil); !errors.Is(err, ErrNotFinite) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	if _, err := CrossEntropy([]float32{1, nan}, []int32{0}, 1, 2, nil); !errors.Is(err, ErrNotFinite) {
		t.Error(err)
	}
	if _, err := CrossEntropy([]float32{1, 2}, []int32{2}, 1, 2, nil); err == nil {
		t.Error("a target outside the vocabulary passes")
	}
	for i, l := range []LogitLoss{{Temperature: -1}, {Temperature: math.NaN()}, {KL: -1}, {CE: math.Inf(1)}, {Rows: -1}, {Targets: -1}} {
		if l.Check() == nil {
			t.Errorf("case %d passes", i)
		}
	}
	if err := (LogitLoss{}).Check(); err != nil {
		t.Error(err)
	}
}

// BenchmarkLogitLoss: rows of a large vocabulary, on one thread.
func BenchmarkLogitLoss(b *testing.B) {
	const rows, v = 4, 128256
	s, t := randoms(rows*v, 3, 1), randoms(rows*v, 3, 2)
	work := slices.Clone(s)
	b.SetBytes(rows * v * 8)
	b.ReportAllocs()
	for b.Loop() {
		copy(work, s)
		if _, err := (LogitLoss{KL: 1}).Apply(work, t, nil, rows, v, nil); err != nil {
			b.Fatal(err)
		}
	}
}
