package heads

import (
	"math/rand/v2"
	"testing"
)

func TestRoundUp(t *testing.T) {
	for _, c := range [][3]int{{0, 64, 0}, {1, 64, 64}, {64, 64, 64}, {65, 64, 128}, {65, 0, 65}, {65, 1, 65}} {
		if got := RoundUp(c[0], c[1]); got != c[2] {
			t.Errorf("RoundUp(%d, %d) = %d", c[0], c[1], got)
		}
	}
}

// TestDenseUpTo compares with the definition at every length.
func TestDenseUpTo(t *testing.T) {
	for _, saving := range []float64{0, 0.1, 0.25, 0.5, 2. / 3, 0.9, 0.95} {
		for kept := 1; kept < 60; kept++ {
			want := 0
			for n := 1; n < 2000; n++ {
				if n <= kept || float64(n-kept) < saving*float64(n) {
					want = n
				}
			}
			if got := DenseUpTo(kept/3, kept-kept/3, saving); got != want {
				t.Errorf("%d kept, saving %g: %d, want %d", kept, saving, got, want)
			}
		}
	}
	if got := DenseUpTo(1<<29, 1<<28, 0.9999999); got != 1<<30 {
		t.Errorf("beyond what a plan may state: %d", got)
	}
}

// TestSelectBudget tries every count, on layers alike and not.
func TestSelectBudget(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	m := layersOf(4, 0, 0, 64, 0)
	m.Layers[1].H, m.Layers[1].G = 0, 0
	m.Layers[3].G, m.Layers[3].K = 2, 64
	scores := rowsOf(m.Layers, kvHeads)
	for _, row := range scores {
		for g := range row {
			row[g] = rng.Float64()
		}
	}
	for _, share := range []float64{0.2, 0.25, 0.33, 0.5, 0.77, 1} {
		s, c, err := SelectBudget(m, scores, share, 4, 28, 256)
		want := -1
		for n := 0; n <= 10; n++ {
			if d := KVBytes(m, SelectCount(scores, n).Full, 4, 28, 2, 256); d.Density() <= share {
				want = n
			}
		}
		if want < 0 != (err != nil) || err == nil && (s.Count != want || c.Density() > share) {
			t.Errorf("share %g: %d heads at %g, want %d, %v", share, s.Count, c.Density(), want, err)
		}
	}
	for name, err := range map[string]error{
		"too small": second(SelectBudget(m, scores, 0.01, 4, 28, 256)),
		"share":     second(SelectBudget(m, scores, 1.5, 4, 28, 256)),
		"length":    second(SelectBudget(m, scores, 0.5, 4, 28, 0)),
		"shape":     second(SelectBudget(m, scores[:2], 0.5, 4, 28, 256)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second(_ Selection, _ Cache, err error) error { return err }
