package kvmerge

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"modelpress/internal/device/cpu"
)

// randomStats are moments of a layer of random heads.
func randomStats(t testing.TB, s Shape, tokens int) *Stats {
	t.Helper()
	rnd := rand.New(rand.NewPCG(4, 9))
	random := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(rnd.NormFloat64())
		}
		return out
	}
	freq := func(int) []float32 { return make([]float32, s.Rotary/2) }
	st := NewStats(s, freq, nil, random(2*s.K*s.H*s.K))
	st.Add(random(tokens*s.H*s.K), random(tokens*s.G*s.K), random(tokens*s.G*s.K), tokens, cpu.New(2).For)
	return st
}

// TestCosts: pairs and narrow sets cost what they lose, wide ones what their pairs do; totals are of what groups lose, however wide, and
// nothing depends on who asks first.
func TestCosts(t *testing.T) {
	st := randomStats(t, Shape{H: 8, G: 8, K: 96, Rotary: 96}, 300)
	w := Ways{PCA, PCA}
	cost := func(members ...int) float64 {
		v, err := st.Cost(members, w)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	c := st.Costs(w)
	if !c.Exact(2) || c.Exact(3) || c.Exact(4) { // 288 and 384 values are more than 256
		t.Fatal("which sets are priced exactly")
	}
	if got := c.Of([]int{2, 5}); got != cost(2, 5) {
		t.Errorf("a pair costs %v, want %v", got, cost(2, 5))
	}
	want := 0.0
	for _, p := range [][2]int{{1, 3}, {1, 4}, {1, 6}, {3, 4}, {3, 6}, {4, 6}} {
		want += cost(p[0], p[1])
	}
	if got := c.Of([]int{1, 3, 4, 6}); got != want {
		t.Errorf("a wide set costs %v, want %v", got, want)
	}
	groups := Groups{{0, 2, 5, 7}, {1, 3, 4, 6}}
	got, err := c.Total(groups, cpu.New(2).For)
	if err != nil || math.Abs(got-cost(0, 2, 5, 7)-cost(1, 3, 4, 6)) > 1e-12*got {
		t.Errorf("total %v, %v", got, err)
	}
	if got, err := c.Total(Contiguous(8, 1), nil); got != 0 || err != nil {
		t.Errorf("heads by themselves cost %v, %v", got, err)
	}
	narrow := randomStats(t, Shape{H: 4, G: 4, K: 32, Rotary: 32}, 100)
	v, err := narrow.Cost([]int{0, 1, 2, 3}, w)
	if err != nil || narrow.Costs(w).Of([]int{0, 1, 2, 3}) != v {
		t.Errorf("a narrow set of four costs otherwise than %v, %v", v, err)
	}
	empty := NewStats(Shape{H: 4, G: 4, K: 32}, nil, nil, make([]float32, 128*128))
	e := empty.Costs(w)
	if e.Of([]int{0, 1}) != 0 || e.Err() == nil {
		t.Errorf("no tokens: %v", e.Err())
	}
}

// TestCrew: no more bodies run at a time than memory is meant for, and each runs once.
func TestCrew(t *testing.T) {
	for _, c := range []struct{ t, k, want int }{{2, 32, 8}, {4, 128, 8}, {8, 128, 4}, {16, 128, 1}, {32, 128, 1}} {
		if got := atOnce(c.t * c.k); got != c.want {
			t.Errorf("%d heads of %d: %d at a time, want %d", c.t, c.k, got, c.want)
		}
		s := &Stats{Shape: Shape{H: 32, G: 32, K: c.k}}
		var mu sync.Mutex
		running, most, ran := 0, 0, map[int]int{}
		many := func(n int, body func(i int)) { // as many threads as there is work
			var wg sync.WaitGroup
			for i := range n {
				wg.Add(1)
				go func() { defer wg.Done(); body(i) }()
			}
			wg.Wait()
		}
		s.crew(many, c.t)(50, func(i int) {
			mu.Lock()
			running++
			most = max(most, running)
			ran[i]++
			mu.Unlock()
			mu.Lock()
			running--
			mu.Unlock()
		})
		if most > c.want || len(ran) != 50 {
			t.Errorf("%d heads of %d: %d bodies at a time, %d of 50 ran", c.t, c.k, most, len(ran))
		}
		for i, n := range ran {
			if n != 1 {
				t.Errorf("body %d ran %d times", i, n)
			}
		}
	}
	if got := SolveBytes(32, 128); got != 52*4096*4096 {
		t.Errorf("32 heads of 128 take %d bytes", got)
	}
}
