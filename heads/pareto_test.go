package heads

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
)

// smallFrontier has 4 heads in 2 layers, 4 rules and 3 lengths.
func smallFrontier(seed uint64) *Frontier {
	r := rand.New(rand.NewPCG(seed, 1))
	f := &Frontier{Lengths: []int{2048, 4096, 8192}, Distinct: 2}
	for range f.Lengths {
		table := make([][][]float64, 2)
		for l := range table {
			for range 2 {
				table[l] = append(table[l], []float64{3 + r.ExpFloat64(), 2 * r.Float64(), 1.5 * r.Float64(), 0.5 * r.Float64()})
			}
		}
		f.Loss = append(f.Loss, table)
	}
	for _, n := range f.Lengths {
		f.Caches = append(f.Caches, CacheLimit{Length: n, Max: 0.55, Dense: []int64{100, 100}, Size: [][]int64{{10, 30, 60, 100}, {10, 30, 60, 100}}})
	}
	return f
}

// bruteFront lists the losses of every non-dominated choice of a small frontier.
func bruteFront(f *Frontier) [][]float64 {
	var all [][]float64
	for code := range 256 {
		rule := [][]int{{code & 3, code >> 2 & 3}, {code >> 4 & 3, code >> 6 & 3}}
		size := int64(0)
		for _, row := range rule {
			for _, r := range row {
				size += f.Caches[0].Size[0][r]
			}
		}
		if float64(size)/400 <= f.Caches[0].Max {
			all = append(all, f.losses(rule))
		}
	}
	var front [][]float64
	for _, a := range all {
		beaten := false
		for _, b := range all {
			beaten = beaten || dominates(b, a)
		}
		if !beaten {
			front = append(front, a)
		}
	}
	return front
}

// TestFrontier: every candidate is truly non-dominated among all choices, the best choice for each length is there, and threads change
// nothing.
func TestFrontier(t *testing.T) {
	found, all := 0, 0
	for seed := range uint64(5) {
		f := smallFrontier(seed)
		front := bruteFront(f)
		got, solves, err := f.Solve()
		if err != nil || solves != 51 {
			t.Fatalf("%d solves, %v", solves, err)
		}
		best := []float64{math.Inf(1), math.Inf(1), math.Inf(1)}
		for i, c := range got {
			for o, v := range c.Loss {
				best[o] = math.Min(best[o], v)
			}
			for _, b := range front {
				if dominates(b, c.Loss) {
					t.Errorf("seed %d: candidate %d %v is beaten by %v", seed, i, c.Loss, b)
				}
			}
			if i > 0 && got[i-1].Loss[0] > c.Loss[0] || !reflect.DeepEqual(f.losses(c.Rule), c.Loss) {
				t.Errorf("seed %d: candidate %d: order or losses", seed, i)
			}
		}
		for o := range best {
			for _, b := range front {
				if b[o] < best[o] {
					t.Errorf("seed %d: length %d: best %v, there is %v", seed, o, best[o], b[o])
				}
			}
		}
		found, all = found+len(got), all+len(front)
		f.For = func(n int, body func(int)) {
			var wg sync.WaitGroup
			for i := n - 1; i >= 0; i-- {
				wg.Add(1)
				go func() { defer wg.Done(); body(i) }()
			}
			wg.Wait()
		}
		again, _, err := f.Solve()
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("seed %d: threads change the result (%v)", seed, err)
		}
	}
	t.Logf("%d of %d non-dominated choices found", found, all)
	if 2*found < all {
		t.Error("less than half of the front is found")
	}
}

// TestFrontierOfTies: where the last rules lose the same at the first length, as all do that keep the whole of a short text, no candidate is
// one of those that lose more than needed at the others.
func TestFrontierOfTies(t *testing.T) {
	for seed := range uint64(20) {
		f := smallFrontier(seed)
		f.Ranges = 2
		for l, layer := range f.Loss[0] {
			for g, row := range layer {
				row[1], row[2], row[3] = 0, 0, 0
				f.Loss[1][l][g][3] = f.Loss[1][l][g][2]
			}
		}
		front := bruteFront(f)
		got, _, err := f.Solve()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got {
			for _, b := range front {
				if dominates(b, c.Loss) {
					t.Errorf("seed %d: %v is beaten by %v", seed, c.Loss, b)
				}
			}
		}
	}
}

func TestFrontierErrors(t *testing.T) {
	f := smallFrontier(1)
	f.Caches[2].Max = 0.05
	var limit *LimitError
	if _, _, err := f.Solve(); !errors.As(err, &limit) || limit.Length != 8192 {
		t.Errorf("%v", err)
	}
	f = smallFrontier(1)
	f.Ranges = 1000
	if _, _, err := f.Solve(); err == nil {
		t.Error("a million knapsacks are accepted")
	}
	f.Lengths = nil
	if _, _, err := f.Solve(); err == nil {
		t.Error("no lengths are accepted")
	}
}

// TestFrontierOfOne: with one length the front is the knapsack's solution.
func TestFrontierOfOne(t *testing.T) {
	f := smallFrontier(3)
	f.Lengths, f.Loss = f.Lengths[:1], f.Loss[:1]
	got, solves, err := f.Solve()
	if err != nil {
		t.Fatal(err)
	}
	s, err := (&Knapsack{Loss: f.Loss[0], Caches: f.Caches, Distinct: 2}).Solve()
	if err != nil || solves != 1 || len(got) != 1 || !reflect.DeepEqual(got[0].Rule, s.Rule) || got[0].Loss[0] != s.Loss {
		t.Errorf("%v: %d solves, %+v, want %+v", err, solves, got, s)
	}
}

func TestWinner(t *testing.T) {
	c := []Candidate{{Length: 1}, {Length: 2}, {Length: 3}, {Length: 4}}
	calls := 0
	best, losses, err := Winner(c, func(c *Candidate) (float64, error) {
		calls++
		return []float64{2, 1.0000002, 1.0000001, 5}[c.Length-1], nil
	})
	if err != nil || best != 1 || calls != 4 || !reflect.DeepEqual(losses, []float64{2, 1, 1, 5}) {
		t.Errorf("winner %d of %v after %d calls, %v", best, losses, calls, err)
	}
	if _, _, err := Winner(nil, nil); err == nil {
		t.Error("a winner of none")
	}
	if _, _, err := Winner(c, func(*Candidate) (float64, error) { return math.NaN(), nil }); err == nil {
		t.Error("NaN wins")
	}
	if _, _, err := Winner(c, func(*Candidate) (float64, error) { return 0, errors.New("no") }); err == nil {
		t.Error("an error is lost")
	}
}
