package quantize

import (
	"math"
	"slices"
	"testing"
)

func TestImportance(t *testing.T) {
	// Two heads over four tokens: sums 3, 1, 2, 2 after adding.
	sums := []float32{2, 0.5, 0.5, 1, 1, 0.5, 1.5, 1}
	w := Importance(sums, 2, 4, 0.1, 1)
	// Mapped: 1, 0.1, 0.55, 0.55; mean 0.55.
	for i, want := range []float64{1 / 0.55, 0.1 / 0.55, 1, 1} {
		if math.Abs(float64(w[i])-want) > 1e-6 {
			t.Errorf("weight %d is %v, want %v", i, w[i], want)
		}
	}
}

func TestImportanceHasMeanOne(t *testing.T) {
	sums := make([]float32, 8*100)
	for i := range sums {
		sums[i] = float32(1 + math.Sin(float64(i*i)))
	}
	for _, r := range []ImportanceRule{{Min: 0.005, Max: 1}, {Min: 1, Max: 3, Divide: VisibleSqrt}, {Max: 1, Divide: VisibleAll, Window: 9}} {
		var mean float64
		w := r.Weights(sums, 8, 100)
		for _, v := range w {
			mean += float64(v) / 100
		}
		if math.Abs(mean-1) > 1e-5 {
			t.Errorf("%+v: mean %v", r, mean)
		}
		if lo, hi := slices.Min(w), slices.Max(w); math.Abs(float64(lo)*r.Max-float64(hi)*r.Min) > 1e-4 {
			t.Errorf("%+v: weights from %v to %v", r, lo, hi)
		}
	}
}

func TestImportanceOfUniformAttention(t *testing.T) {
	const n = 50
	causal := make([]float32, n) // each query spreads its attention evenly over what it sees
	for i := range n {
		for j := range i + 1 {
			causal[j] += 1 / float32(i+1)
		}
	}
	if w := (ImportanceRule{Min: 0.1, Max: 1}).Weights(causal, 1, n); w[0] <= w[n-1] {
		t.Error("the first token receives most and does not weigh most")
	}
	equal := fill(make([]float32, n), 0.25)
	for _, sums := range [][]float32{equal, make([]float32, n)} {
		for _, v := range Importance(sums, 1, n, 0.005, 1) {
			if v != 1 {
				t.Fatalf("constant sums give weight %v", v)
			}
		}
	}
	for _, v := range Importance(causal, 1, n, 1, 1) {
		if v != 1 {
			t.Fatalf("range 1 to 1 gives weight %v", v)
		}
	}
	if len(Importance(nil, 1, 0, 0, 1)) != 0 {
		t.Error("no tokens, yet weights")
	}
	// One query per token that sees it: attention in proportion to visibility is even after division.
	even := make([]float32, n)
	for j := range even {
		even[j] = float32(min(n-j, 8))
	}
	for _, v := range (ImportanceRule{Max: 1, Divide: VisibleAll, Window: 8}).Weights(even, 1, n) {
		if v != 1 {
			t.Fatalf("weight %v", v)
		}
	}
}

func TestImportanceKeepsNaNVisible(t *testing.T) {
	sums := []float32{1, float32(math.NaN()), 2}
	for _, v := range Importance(sums, 1, 3, 0, 1) {
		if !math.IsNaN(float64(v)) {
			t.Errorf("weight %v from a sum that is NaN", v)
		}
	}
}
