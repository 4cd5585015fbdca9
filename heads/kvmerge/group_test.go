package kvmerge

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// drawn returns a cost for each set of heads, one of a number of kinds, some negative.
func drawn(seed uint64, kinds int) func([]int) float64 {
	return func(members []int) float64 {
		h := seed
		for _, m := range members {
			h = h*1000003 + uint64(m) + 1
		}
		return float64(rand.New(rand.NewPCG(h, 7)).IntN(kinds) - kinds/4)
	}
}

// everyPartition calls visit with each partition of n heads into groups of t, in lexicographic order.
func everyPartition(n, t int, visit func(Groups)) {
	var groups Groups
	used := make([]bool, n)
	var open func()
	var fill func(group []int, from int)
	fill = func(group []int, from int) {
		if len(group) == t {
			groups = append(groups, slices.Clone(group))
			open()
			groups = groups[:len(groups)-1]
			return
		}
		for h := from; h < n; h++ {
			if !used[h] {
				used[h] = true
				fill(append(group, h), h+1)
				used[h] = false
			}
		}
	}
	open = func() {
		first := slices.Index(used, false)
		if first < 0 {
			visit(groups)
			return
		}
		used[first] = true
		fill([]int{first}, first+1)
		used[first] = false
	}
	open()
}

func mixedOf(class []int, groups Groups) int {
	n := 0
	for _, members := range groups {
		seen := map[int]bool{}
		for _, h := range members {
			if class != nil {
				seen[class[h]] = true
			}
		}
		if len(seen) > 1 {
			n++
		}
	}
	return n
}

// bruteForce tries every partition: fewest mixed groups, then least cost in steps of 1e-9 of the largest, then the first.
func bruteForce(n, t int, class []int, cost func([]int) float64) (best Groups, mixed int) {
	value, largest := map[[8]int8]float64{}, 0.0
	key := func(members []int) (k [8]int8) {
		for i, h := range members {
			k[i] = int8(h) + 1
		}
		return k
	}
	everyPartition(n, t, func(groups Groups) {
		for _, members := range groups {
			if _, ok := value[key(members)]; !ok {
				value[key(members)] = cost(members)
				largest = math.Max(largest, math.Abs(cost(members)))
			}
		}
	})
	if largest == 0 {
		largest = 1
	}
	var least float64
	everyPartition(n, t, func(groups Groups) {
		sum := 0.0
		for _, members := range groups {
			sum += math.Round(value[key(members)] / largest * 1e9)
		}
		if m := mixedOf(class, groups); best == nil || m < mixed || m == mixed && sum < least {
			best, mixed, least = slices.Clone(groups), m, sum
		}
	})
	return best, mixed
}

func randomClasses(rng *rand.Rand, n int) []int {
	kinds := rng.IntN(4)
	if kinds == 0 {
		return nil
	}
	class := make([]int, n)
	for i := range class {
		class[i] = 5 * rng.IntN(kinds)
	}
	return class
}

func TestExactAgainstBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for _, size := range []struct{ n, t, trials int }{{2, 2, 5}, {4, 2, 100}, {6, 2, 200}, {8, 2, 300}, {8, 4, 300}, {6, 3, 200}, {9, 3, 100},
		{4, 4, 5}, {10, 5, 50}, {12, 3, 8}, {12, 4, 12}, {12, 6, 20}} {
		for trial := range size.trials {
			kinds := []int{1, 2, 4, 1000, 1 << 40}[trial%5]
			g := Grouping{N: size.n, T: size.t, Cost: drawn(rng.Uint64(), kinds), Class: randomClasses(rng, size.n)}
			want, mixed := bruteForce(g.N, g.T, g.Class, g.Cost)
			got, found := g.Solve()
			if !sameGroups(got, want) || found.Mixed != mixed || !found.Exact {
				t.Fatalf("%d heads by %d, classes %v: %v %+v, want %v with %d mixed", g.N, g.T, g.Class, got, found, want, mixed)
			}
			sum := 0.0
			for _, members := range want {
				sum += g.Cost(members)
			}
			if found.Cost != sum {
				t.Fatalf("cost %v, want %v", found.Cost, sum)
			}
		}
	}
}

// The search keeps mixed groups as few as brute force finds them, whatever the classes.
func TestSearchMixesLeast(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 11))
	forced := 0
	for range 60 {
		n, size := 8, []int{2, 4}[rng.IntN(2)]
		if rng.IntN(4) == 0 {
			n, size = 9, 3
		}
		g := Grouping{N: n, T: size, Cost: drawn(rng.Uint64(), 1000), Class: randomClasses(rng, n), Seed: 3}
		_, mixed := bruteForce(n, size, g.Class, func([]int) float64 { return 0 })
		groups := g.search(&groupCosts{of: g.Cost, known: map[string]float64{}})
		if err := groups.Check(n); err != nil {
			t.Fatal(err)
		}
		if got := mixedOf(g.Class, groups); got != mixed {
			t.Fatalf("%d heads by %d, classes %v: %v has %d mixed groups, want %d", n, size, g.Class, groups, got, mixed)
		}
		if mixed > 0 {
			forced++
		}
	}
	if forced < 10 {
		t.Errorf("only %d instances force a mixed group", forced)
	}
}

func TestTrivialGroups(t *testing.T) {
	none := func([]int) float64 { panic("asked") }
	groups, found := Grouping{N: 6, T: 1, Cost: none}.Solve()
	if !sameGroups(groups, Contiguous(6, 1)) || !groups.Trivial() || found != (Found{Exact: true}) {
		t.Errorf("%v %+v", groups, found)
	}
	whole := func(m []int) float64 { return float64(len(m)) + 0.5 }
	groups, found = Grouping{N: 6, T: 6, Cost: whole, Class: []int{1, 1, 1, 1, 1, 2}}.Solve()
	if !sameGroups(groups, Contiguous(6, 6)) || found != (Found{6.5, 1, true}) {
		t.Errorf("%v %+v", groups, found)
	}
}

// Where all costs are equal, or differ by less than a step, neighbours share.
func TestEqualCostsGroupNeighbours(t *testing.T) {
	for _, c := range []struct{ n, t int }{{8, 2}, {8, 4}, {16, 4}, {32, 2}, {64, 2}, {32, 4}, {32, 8}, {24, 6}, {16, 8}, {128, 2}} {
		for _, cost := range []float64{0, 3, -3} {
			noise := drawn(1, 100)
			groups, found := Grouping{N: c.n, T: c.t, Cost: func(m []int) float64 { return cost * (1 + 1e-13*noise(m)) }}.Solve()
			if !sameGroups(groups, Contiguous(c.n, c.t)) {
				t.Errorf("%+v: %v %+v", c, groups, found)
			}
		}
	}
}

// counting returns a cost that fails the test where it is asked twice for a set, or for members that are not ascending.
func counting(t *testing.T, cost func([]int) float64) (counted func([]int) float64, calls func() int) {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(m []int) float64 {
			mu.Lock()
			defer mu.Unlock()
			if key := setKey(m); seen[key] || !slices.IsSorted(m) {
				t.Errorf("asked again, or out of order: %v", m)
			} else {
				seen[key] = true
			}
			v := cost(m)
			for i := range m {
				m[i] = -1 // members belong to the callee
			}
			return v
		}, func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(seen)
		}
}

// goroutines runs bodies in no order on threads of their own.
func goroutines(n int, body func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { body(n - 1 - i) })
	}
	wg.Wait()
}

func TestGroupingIsDeterministic(t *testing.T) {
	for _, c := range []struct{ n, t int }{{12, 3}, {16, 4}, {32, 2}, {32, 4}, {24, 6}, {32, 8}} {
		class := make([]int, c.n)
		for i := range class {
			class[i] = i % 3 / 2
		}
		cost := leftover(uint64(c.n), c.n, 12, 0.7)
		once, calls := counting(t, cost)
		want, found := Grouping{N: c.n, T: c.t, Cost: once, Class: class, Seed: 1}.Solve()
		if err := want.Check(c.n); err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v: %d costs asked for, %+v", c, calls(), found)
		for range 3 {
			once, _ := counting(t, cost)
			got, f := Grouping{N: c.n, T: c.t, Cost: once, Class: class, Seed: 1, Par: goroutines}.Solve()
			if !sameGroups(got, want) || f != found {
				t.Errorf("%+v: in parallel %v %+v, serially %v %+v", c, got, f, want, found)
			}
		}
	}
}

func TestGroupingRefusesNonsense(t *testing.T) {
	zero := func([]int) float64 { return 0 }
	for name, g := range map[string]Grouping{
		"not divided":  {N: 6, T: 4, Cost: zero},
		"no heads":     {N: 0, T: 1, Cost: zero},
		"no groups":    {N: 4, T: 0, Cost: zero},
		"classes":      {N: 4, T: 2, Cost: zero, Class: []int{1}},
		"not a number": {N: 4, T: 2, Cost: func([]int) float64 { return math.NaN() }},
		"infinite":     {N: 32, T: 4, Cost: func([]int) float64 { return math.Inf(1) }},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			g.Solve()
		}()
	}
}
