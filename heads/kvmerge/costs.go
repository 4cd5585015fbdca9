package kvmerge

import (
	"sync"

	"modelpress/internal/num"
)

// Costs prices sets of heads of one layer, for [Grouping] and for budgets. Pairs are remembered.
type Costs struct {
	st   *Stats
	ways Ways

	mu    sync.Mutex
	pairs map[[2]int]float64
	err   error
}

// Costs returns the prices of sharing in some way.
func (s *Stats) Costs(w Ways) *Costs {
	return &Costs{st: s, ways: w, pairs: map[[2]int]float64{}}
}

// pricedWidth is the largest number of values, heads times head dim, of a set of more than two heads that is solved to be priced. The time
// that takes grows with its cube, and a search asks for hundreds.
const pricedWidth = 256

// Exact reports whether sets of t heads are priced by what they lose, and not by what their pairs would.
func (c *Costs) Exact(t int) bool { return t <= 2 || t*c.st.Shape.K <= pricedWidth }

// Of is [Stats.Cost] of at least two members, ascending; of wide sets the sum of those of their pairs, which compares sets of one size. It
// may be called concurrently. Where a cost cannot be told it is 0 and Err says why.
func (c *Costs) Of(members []int) float64 {
	if len(members) == 2 {
		return c.pair(members[0], members[1])
	}
	if c.Exact(len(members)) {
		return c.solved(members)
	}
	sum := 0.0
	for i, a := range members {
		for _, b := range members[i+1:] {
			sum += c.pair(a, b)
		}
	}
	return sum
}

func (c *Costs) pair(a, b int) float64 {
	key := [2]int{a, b}
	c.mu.Lock()
	v, ok := c.pairs[key]
	c.mu.Unlock()
	if ok {
		return v
	}
	v = c.solved(key[:])
	c.mu.Lock()
	c.pairs[key] = v
	c.mu.Unlock()
	return v
}

func (c *Costs) solved(members []int) float64 {
	v, err := c.st.Cost(members, c.ways)
	c.mu.Lock()
	defer c.mu.Unlock()
	// Of several errors the first by text is kept, whichever came first.
	if err != nil && (c.err == nil || err.Error() < c.err.Error()) {
		c.err = err
	}
	return v
}

// Err is why a cost could not be told, nil where all could.
func (c *Costs) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Total adds up what groups lose, however wide. A head by itself loses nothing.
func (c *Costs) Total(groups Groups, par num.Par) (float64, error) {
	list := make([]float64, len(groups))
	inParallel(c.st.crew(par, len(groups[0])), len(groups), func(i int) {
		if len(groups[i]) > 1 {
			list[i] = c.solved(groups[i])
		}
	})
	return total(list), c.Err()
}

// Crew is par for the pricing of sets for groups of t heads: it runs no more at once than memory is meant for; see [SolveBytes].
func (c *Costs) Crew(par num.Par, t int) num.Par {
	if !c.Exact(t) {
		t = 2
	}
	return c.st.crew(par, t)
}

// crew is par with no more than atOnce bodies at a time for groups of t heads.
func (s *Stats) crew(par num.Par, t int) num.Par {
	if par == nil {
		return nil
	}
	most := atOnce(t * s.Shape.K)
	return func(n int, body func(i int)) {
		par(min(n, most), func(w int) {
			for i := w; i < n; i += most {
				body(i)
			}
		})
	}
}

// atOnce is how many groups of a width, heads times head dim, are solved at a time: eight, fewer where they take more than 256 MiB.
func atOnce(width int) int {
	const room = 256 << 20
	return max(1, min(8, int(room/solveBytes(width))))
}

// solveBytes is what the solution of a group of a width takes: its moments, weighted, in work, and their eigenvectors.
func solveBytes(width int) int64 { return 52 * int64(width) * int64(width) }

// SolveBytes is the memory that [Stats.Solve] and [Costs] take at most for groups of t heads of dim k.
func SolveBytes(t, k int) int64 {
	n := int64(atOnce(t*k)) * solveBytes(t*k)
	return max(n, int64(atOnce(2*k))*solveBytes(2*k))
}
