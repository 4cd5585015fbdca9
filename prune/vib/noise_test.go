package vib

import (
	"math"
	"slices"
	"testing"
)

// TestNoise: the moments of a standard normal distribution, no correlation between units, windows and steps, and every number where
// it belongs whatever was drawn before.
func TestNoise(t *testing.T) {
	const n, windows = 2001, 50
	src := noise{seed: 3}
	draw := func(step, window uint64, n int) []float32 {
		v := make([]float32, n)
		src.normal(v, step, window)
		return v
	}
	var moments [5]float64
	var next, across, later float64
	for w := range uint64(windows) {
		a, b, c := draw(7, w, n), draw(7, w+1000, n), draw(8, w, n)
		for i, x := range a {
			v := float64(x)
			for k := range moments {
				moments[k] += math.Pow(v, float64(k)) / (n * windows)
			}
			next += v * float64(a[(i+1)%n]) / (n * windows)
			across += v * float64(b[i]) / (n * windows)
			later += v * float64(c[i]) / (n * windows)
		}
	}
	off := 5 / math.Sqrt(n*windows)
	for k, want := range []float64{1, 0, 1, 0, 3} {
		if bound := off * math.Sqrt(96); math.Abs(moments[k]-want) > bound/float64(5-k) {
			t.Errorf("moment %d is %.4f, want %g", k, moments[k], want)
		}
	}
	for what, v := range map[string]float64{"neighbours": next, "windows": across, "steps": later} {
		if math.Abs(v) > off {
			t.Errorf("correlation of %s is %.4f", what, v)
		}
	}
	if long, short := draw(7, 1, n), draw(7, 1, 10); !slices.Equal(long[:10], short) {
		t.Error("the first numbers depend on how many there are")
	}
	again := noise{seed: 3}
	v := make([]float32, n)
	again.normal(v, 7, 1)
	if !slices.Equal(v, draw(7, 1, n)) {
		t.Error("the same numbers differ")
	}
	other := noise{seed: 4}
	other.normal(v, 7, 1)
	if slices.Equal(v, draw(7, 1, n)) {
		t.Error("another seed draws the same")
	}
}
