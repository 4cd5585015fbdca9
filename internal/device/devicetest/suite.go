// Package devicetest is the conformance suite of devices: it checks every operation against plain float64 loops. A device
// that passes may stand in for any other.
package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/device"
)

// Run checks every operation of d.
func Run(t *testing.T, d device.Device) {
	s := &suite{d: d}
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"For", s.loops}, {"Copies", s.copies}, {"Slice", s.slices}, {"Sliced", s.sliced},
		{"Ahead", s.ahead}, {"Pieces", s.pieces}, {"Room", s.room}, {"Gather", s.gather}, {"MatMulNT", s.matMul}, {"Weights", s.weights}, {"Elementwise", s.elementwise},
		{"RMSNorm", s.rmsNorm}, {"LayerNorm", s.layerNorm}, {"RoPE", s.rope}, {"Activations", s.activations},
		{"Attention", s.attention}, {"AttentionBack", s.attentionBack}, {"Sequences", s.sequences},
		{"AttnStatistics", s.attnStatistics}, {"AttnStatisticsBands", s.attnStatisticsBands}, {"MatMulNN", s.matMulBack}, {"NormBack", s.normBack}, {"ActivationBack", s.activationBack},
		{"Quantizer", s.quantizer}, {"Mix", s.mix}, {"MatMulTN", s.matMulGrad}, {"NormGrad", s.normGrad}, {"Columns", s.columns},
		{"AttnReader", s.attnRead}, {"Losses", s.losses}, {"TopK", s.topK}, {"Optimizer", s.optimizer}, {"Sampler", s.sampler},
	} {
		t.Run(c.name, c.test)
	}
}

// Same checks that two devices give the same bits: one implementation with different numbers of threads.
func Same(t *testing.T, a, b device.Device) {
	t.Helper()
	if a.Class() != b.Class() {
		t.Fatalf("classes %q and %q", a.Class(), b.Class())
	}
	run := func(d device.Device) []float32 { return (&suite{d: d}).everything(t) }
	x, y := run(a), run(b)
	if len(x) != len(y) {
		t.Fatalf("%d and %d values", len(x), len(y))
	}
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
			t.Fatalf("value %d of %d: %v with %d threads, %v with %d", i, len(x), x[i], a.Threads(), y[i], b.Threads())
		}
	}
}

type suite struct{ d device.Device }

var kinds = []device.Kind{device.F32, device.BF16, device.F16}

// values draws n normal values.
func values(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// buf returns a buffer of the values and what it holds after rounding to its kind.
func (s *suite) buf(t testing.TB, kind device.Kind, v []float32) (device.Buf, []float32) {
	t.Helper()
	b, err := s.d.Alloc(kind, len(v))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Free)
	s.d.Upload(b, 0, v)
	return b, s.read(b)
}

// out returns an F32 buffer of n zeros followed by a few guard values, which read checks.
func (s *suite) out(t testing.TB, n int) device.Buf {
	t.Helper()
	b, _ := s.buf(t, device.F32, append(make([]float32, n), guard, guard, guard))
	return b
}

// guard stands after results: an operation that writes past its end changes it.
const guard = 12345

// result returns n results and checks the guard behind them.
func (s *suite) result(t testing.TB, b device.Buf, n int) []float32 {
	t.Helper()
	v := s.read(b)
	for _, g := range v[n:] {
		if g != guard {
			t.Fatalf("value %v behind the result", g)
		}
	}
	return v[:n]
}

func (s *suite) read(b device.Buf) []float32 {
	v := make([]float32, b.Len())
	s.d.Download(v, b, 0)
	return v
}

// near fails where a value is further from the float64 result than tol, relative to the larger of 1 and its size.
func near(t testing.TB, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tol*max(1, math.Abs(w))) {
			t.Fatalf("%s: [%d] = %v, want %v", what, i, got[i], w)
		}
	}
}

// loops: every index once, at any number, also from within a body.
func (s *suite) loops(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 1000} {
		seen := make([]int, n)
		s.d.For(n, func(i int) { seen[i]++ })
		for i, c := range seen {
			if c != 1 {
				t.Fatalf("index %d of %d ran %d times", i, n, c)
			}
		}
	}
	inner := make([][]int, 5)
	s.d.For(5, func(i int) {
		inner[i] = make([]int, 9)
		s.d.For(9, func(j int) { inner[i][j] = i * j })
	})
	if got := fmt.Sprint(inner[4]); got != "[0 4 8 12 16 20 24 28 32]" {
		t.Errorf("nested loop: %s", got)
	}
	if s.d.Threads() < 1 || s.d.Class() == "" {
		t.Errorf("%d threads, class %q", s.d.Threads(), s.d.Class())
	}
}
