package heads

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"modelpress/internal/arch"
)

// randomKnapsack draws a small instance: 1 or 2 layers of up to 5 heads in all, up to 5 rules, 1 to 3 lengths.
func randomKnapsack(r *rand.Rand) *Knapsack {
	k := &Knapsack{Distinct: r.IntN(4), Nodes: 100000}
	n, rules := 1+r.IntN(5), 1+r.IntN(5)
	split := n
	if r.IntN(3) > 0 {
		split = r.IntN(n + 1)
	}
	table := func() [][][]float64 {
		t := make([][][]float64, 2)
		for h := range n {
			l := 0
			if h >= split {
				l = 1
			}
			row := make([]float64, rules)
			for i := range row {
				row[i] = r.ExpFloat64() * float64(rules-i)
				if r.IntN(4) == 0 {
					row[i] = math.Round(row[i]) // ties
				}
			}
			t[l] = append(t[l], row)
		}
		return t
	}
	k.Loss = table()
	for range 1 + r.IntN(3) {
		c := CacheLimit{Length: 100, Dense: []int64{100, 100}, Max: 0.25 + 0.75*r.Float64()}
		if r.IntN(3) == 0 {
			c.Min = 0.9 * c.Max
		}
		if r.IntN(4) == 0 {
			c.Dense[1] = 50 // a sliding window of the layer's own
		}
		for l := range 2 {
			sizes := make([]int64, rules)
			for i := range sizes {
				sizes[i] = min(c.Dense[l], 1+int64(r.IntN(100)*(i+1)/rules))
			}
			c.Size = append(c.Size, sizes)
		}
		k.Caches = append(k.Caches, c)
	}
	if r.IntN(3) == 0 {
		e := LossLimit{Length: 50, Loss: table()}
		e.Max = (0.5 + 2*r.Float64()) * float64(n)
		k.Losses = append(k.Losses, e)
	}
	return k
}

// bruteForce tries every choice. It returns the least loss, or ok false where nothing keeps the limits.
func bruteForce(k *Knapsack) (best float64, ok bool) {
	type place struct{ l, g int }
	var heads []place
	for l, row := range k.Loss {
		for g := range row {
			heads = append(heads, place{l, g})
		}
	}
	rules := len(k.Loss[heads[0].l][heads[0].g])
	pick := make([]int, len(heads))
	best = math.Inf(1)
	var try func(h int)
	try = func(h int) {
		if h < len(heads) {
			for pick[h] = range rules {
				try(h + 1)
			}
			return
		}
		var loss float64
		used := map[place]bool{}
		distinct := map[int]int{}
		for i, p := range heads {
			loss += k.Loss[p.l][p.g][pick[i]]
			if at := (place{p.l, pick[i]}); !used[at] {
				used[at] = true
				distinct[p.l]++
			}
		}
		for _, n := range distinct {
			if k.Distinct > 0 && n > k.Distinct {
				return
			}
		}
		for _, c := range k.Caches {
			var size, dense int64
			for i, p := range heads {
				size += c.Size[p.l][pick[i]]
				dense += c.Dense[p.l]
			}
			if density := float64(size) / float64(dense); density > c.Max || density < c.Min {
				return
			}
		}
		for _, e := range k.Losses {
			var sum float64
			for i, p := range heads {
				sum += e.Loss[p.l][p.g][pick[i]]
			}
			if sum > e.Max {
				return
			}
		}
		best, ok = math.Min(best, loss), true
	}
	try(0)
	return best, ok
}

// check fails unless a solution is what it says: complete, within the limits, its loss the sum of its rules' losses.
func check(t *testing.T, k *Knapsack, s *Solution) {
	t.Helper()
	var loss float64
	for l, row := range k.Loss {
		distinct := map[int]bool{}
		if len(s.Rule[l]) != len(row) {
			t.Fatalf("layer %d: %d rules for %d heads", l, len(s.Rule[l]), len(row))
		}
		for g := range row {
			loss += row[g][s.Rule[l][g]]
			distinct[s.Rule[l][g]] = true
		}
		if k.Distinct > 0 && len(distinct) > k.Distinct {
			t.Fatalf("layer %d uses %d rules", l, len(distinct))
		}
	}
	if loss != s.Loss {
		t.Fatalf("loss %v, want %v", s.Loss, loss)
	}
	for i, c := range k.Caches {
		var size, dense int64
		for l, row := range s.Rule {
			for _, r := range row {
				size += c.Size[l][r]
				dense += c.Dense[l]
			}
		}
		if got := float64(size) / float64(dense); got != s.Density[i] || got > c.Max || got < c.Min {
			t.Fatalf("density %v, reported %v, want %v to %v", got, s.Density[i], c.Min, c.Max)
		}
	}
	for _, e := range k.Losses {
		var sum float64
		for l, row := range s.Rule {
			for g, r := range row {
				sum += e.Loss[l][g][r]
			}
		}
		if sum > e.Max {
			t.Fatalf("loss at %d tokens %v, want at most %v", e.Length, sum, e.Max)
		}
	}
	if s.Bound > s.Loss || s.Gap < 0 {
		t.Fatalf("bound %v above the loss %v, gap %v", s.Bound, s.Loss, s.Gap)
	}
}

// TestKnapsackBruteForce compares with every choice on random instances, with the search that closes them and without.
func TestKnapsackBruteForce(t *testing.T) {
	const instances = 1000
	for _, nodes := range []int{0, -1} {
		r := rand.New(rand.NewPCG(1, 2))
		feasible, optimal, missed, infeasible := 0, 0, 0, 0
		var worst float64
		for i := range instances {
			k := randomKnapsack(r)
			k.Nodes = nodes
			want, ok := bruteForce(k)
			s, err := k.Solve()
			if !ok {
				infeasible++
				var limit *LimitError
				if err == nil || !errors.As(err, &limit) || limit.Length == 0 || nodes == 0 && !errors.Is(err, ErrInfeasible) {
					t.Fatalf("instance %d keeps no limits: %v", i, err)
				}
				continue
			}
			feasible++
			if nodes < 0 && errors.Is(err, ErrNotFound) {
				missed++
				continue
			}
			if err != nil {
				t.Fatalf("instance %d: %v, brute force finds %v", i, err, want)
			}
			check(t, k, s)
			if s.Bound > want {
				t.Fatalf("instance %d: bound %v above the optimum %v", i, s.Bound, want)
			}
			if s.Loss < want || s.Proved && s.Loss > want*(1+1e-12) {
				t.Fatalf("instance %d: loss %v, the optimum is %v", i, s.Loss, want)
			}
			if s.Loss == want {
				optimal++
			} else if want > 0 {
				worst = math.Max(worst, s.Loss/want-1)
			}
		}
		t.Logf("nodes %d: %d of %d feasible ones optimal, %d not found, worst %.3g above; %d infeasible", nodes, optimal, feasible, missed, worst, infeasible)
		if nodes == 0 && optimal != feasible || missed > feasible/20 || optimal < feasible*9/10 {
			t.Errorf("nodes %d: %d of %d optimal, %d missed", nodes, optimal, feasible, missed)
		}
	}
}

// largeKnapsack is an instance of a large model's size: losses that fall with the span, heads of very different reach.
func largeKnapsack(t testing.TB, layers, perLayer int, lengths []int, distinct int) *Knapsack {
	rules, err := PublishedGrid().Rules()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 8))
	k := &Knapsack{Distinct: distinct}
	for range layers {
		row := make([][]float64, perLayer)
		for g := range row {
			scale, reach := r.ExpFloat64(), 0.02+r.Float64()
			row[g] = make([]float64, len(rules))
			for i, p := range rules {
				row[g][i] = scale * math.Exp(-RuleDensity(p, 8192)/reach) * (1 + 0.2*r.Float64()) * (1 - RuleDensity(p, 8192))
			}
		}
		k.Loss = append(k.Loss, row)
	}
	k.Caches, err = CacheLimits(make([]arch.Layer, layers), rules, lengths, 0.5, 0)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKnapsackLarge solves an instance of 1024 heads under 48 rules and 4 lengths; with two rules a layer, as MoA has it, it must be fast and
// its gap small.
func TestKnapsackLarge(t *testing.T) {
	distinct := []int{1, 2, 0}
	if testing.Short() {
		distinct = []int{2}
	}
	for _, distinct := range distinct {
		k := largeKnapsack(t, 32, 32, []int{2048, 4096, 8192, 16384}, distinct)
		start := time.Now()
		s, err := k.Solve()
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		check(t, k, s)
		t.Logf("distinct %d: %.2f s, loss %.4f, bound %.4f, gap %.3g, density %.4f", distinct, took.Seconds(), s.Loss, s.Bound, s.Gap, s.Density)
		if distinct == 2 && (took > 10*time.Second || s.Gap > 0.01) {
			t.Errorf("%v, gap %v", took, s.Gap)
		}
	}
}

// TestKnapsackIdentity: where the limits allow it, every head gets the rule that loses least; a second run gives the same.
func TestKnapsackIdentity(t *testing.T) {
	k := largeKnapsack(t, 4, 6, []int{2048, 8192}, 2)
	tight, err := k.Solve()
	if err != nil {
		t.Fatal(err)
	}
	again, err := k.Solve()
	if err != nil || !reflect.DeepEqual(tight, again) {
		t.Errorf("a second run differs (%v)", err)
	}
	k.Distinct = 0
	for i := range k.Caches {
		k.Caches[i].Max = 1
	}
	s, err := k.Solve()
	if err != nil {
		t.Fatal(err)
	}
	k.Caches = nil
	if free, err := k.Solve(); err != nil || !reflect.DeepEqual(free.Rule, s.Rule) || free.Loss != s.Loss || free.Gap != 0 {
		t.Errorf("without limits: %+v, %v", free, err)
	}
	var want float64
	for l, row := range k.Loss {
		for g, losses := range row {
			want += slices.Min(losses)
			if losses[s.Rule[l][g]] != slices.Min(losses) {
				t.Errorf("layer %d, head %d: rule %d", l, g, s.Rule[l][g])
			}
		}
	}
	if s.Loss != want || s.Gap != 0 || !(tight.Loss > want) {
		t.Errorf("loss %v, want %v; gap %v; under the limits %v", s.Loss, want, s.Gap, tight.Loss)
	}
}

// TestKnapsackErrors: limits that cannot be kept name their length, tables of wrong shape and numbers are refused.
func TestKnapsackErrors(t *testing.T) {
	make2 := func() *Knapsack {
		loss := [][][]float64{{{1, 2}, {3, 1}}, {}, {{0, 1}}}
		c := func(n int) CacheLimit {
			return CacheLimit{Length: n, Max: 0.5, Size: [][]int64{{4, 8}, {4, 8}, {4, 8}}, Dense: []int64{10, 10, 10}}
		}
		return &Knapsack{Loss: loss, Caches: []CacheLimit{c(512), c(1024)}}
	}
	for _, c := range []struct {
		name   string
		spoil  func(k *Knapsack)
		length int
		alone  bool
	}{
		{"density", func(k *Knapsack) { k.Caches[1].Max = 0.3 }, 1024, true},
		{"least density", func(k *Knapsack) { k.Caches[0].Max, k.Caches[0].Min = 1, 0.95 }, 512, true},
		{"loss", func(k *Knapsack) { k.Losses = []LossLimit{{Length: 256, Loss: k.Loss, Max: 1.5}} }, 256, true},
		{"together", func(k *Knapsack) {
			k.Caches[0].Max, k.Caches[0].Min = 1, 0.7
			k.Caches[1].Max = 0.6
		}, 0, false},
	} {
		k := make2()
		c.spoil(k)
		_, err := k.Solve()
		var limit *LimitError
		if !errors.Is(err, ErrInfeasible) || !errors.As(err, &limit) || limit.Alone != c.alone || c.length != 0 && limit.Length != c.length || limit.Length == 0 {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for name, spoil := range map[string]func(k *Knapsack){
		"nan":          func(k *Knapsack) { k.Loss[0][1][0] = math.NaN() },
		"inf":          func(k *Knapsack) { k.Loss[2][0][1] = math.Inf(1) },
		"ragged rules": func(k *Knapsack) { k.Loss[0][1] = k.Loss[0][1][:1] },
		"no heads":     func(k *Knapsack) { k.Loss = [][][]float64{{}, {}} },
		"layers":       func(k *Knapsack) { k.Caches[0].Size = k.Caches[0].Size[:2] },
		"negative":     func(k *Knapsack) { k.Caches[0].Size[0][0] = -1 },
		"huge":         func(k *Knapsack) { k.Caches[0].Size[0][0] = 1 << 60 },
		"no dense":     func(k *Knapsack) { k.Caches[0].Dense[0] = 0 },
		"budget":       func(k *Knapsack) { k.Caches[0].Max = math.NaN() },
		"distinct":     func(k *Knapsack) { k.Distinct = -1 },
		"other loss":   func(k *Knapsack) { k.Losses = []LossLimit{{Loss: k.Loss[:1]}} },
		"loss limit":   func(k *Knapsack) { k.Losses = []LossLimit{{Loss: k.Loss, Max: math.Inf(1)}} },
	} {
		k := make2()
		spoil(k)
		if s, err := k.Solve(); err == nil || errors.Is(err, ErrInfeasible) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

// TestRuleSets compares the enumeration of sets with all of them.
func TestRuleSets(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	s := newRuleSets()
	for range 300 {
		w, n := 1+r.IntN(6), 1+r.IntN(9)
		v := make([]float64, w*n)
		for i := range v {
			v[i] = math.Round(10*r.NormFloat64()) / 4
		}
		rules := make([]int, n)
		for i := range rules {
			rules[i] = i
		}
		for k := 1; k <= 4; k++ {
			want := math.Inf(1)
			for mask := 1; mask < 1<<n; mask++ {
				var set []int
				for i := range n {
					if mask>>i&1 == 1 {
						set = append(set, i)
					}
				}
				if len(set) <= k {
					want = math.Min(want, price(v, w, set))
				}
			}
			for _, warm := range [][]int{nil, {rules[n-1]}} {
				set, value := s.best(v, w, rules, k, warm)
				if len(set) > k || !slices.IsSorted(set) || value != want || price(v, w, set) != want {
					t.Fatalf("%d heads, %d rules, at most %d: set %v at %v, want %v", w, n, k, set, value, want)
				}
			}
		}
	}
}
