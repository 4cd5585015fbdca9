package heads

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Frontier is MoA's search over several lengths (arXiv:2406.14909, section 4.3): the loss at each length is an objective of its own, and the
// epsilon-constraint method finds choices of rules that trade one for another. First each objective is minimised alone, which also gives
// the range of the others; then each is minimised under every combination of limits on the others, Ranges of them evenly over
// their ranges. With 3 lengths and 4 ranges, as published, these are 3 + 3·16 knapsacks.
//
// Rules that keep all of a short text lose nothing there, however little they keep of a longer one, so that the least loss at one
// length has many choices of rules. Each objective therefore has a small share of the others added to it, as in the augmented
// epsilon-constraint method (Mavrotas, Applied Mathematics and Computation 213, 2009): a choice that is least is then beaten by no other.
//
// Peak memory is that of one [Knapsack] with a limit for each further length, for each thread, and 8 bytes for each length, KV head
// and rule.
type Frontier struct {
	Lengths  []int           // of the objectives, for messages
	Loss     [][][][]float64 // [length][layer][KV head][rule]
	Caches   []CacheLimit
	Distinct int
	Ranges   int // 0 for 4
	// Iterations and Nodes are those of each [Knapsack].
	Iterations, Nodes int
	// For runs body for each of 0 … n-1, in any order and on any threads; nil runs them one after the other. The result does
	// not depend on it.
	For func(n int, body func(i int))
}

// Candidate is one choice of rules with its loss at each length.
type Candidate struct {
	Rule    [][]int   // [layer][KV head]
	Loss    []float64 // [length]
	Density []float64 // under each of Caches
	Gap     float64   // of the knapsack that it came from, for the length that was minimised there
	Length  int       // that length
}

// maxSolves bounds the knapsacks of one frontier.
const maxSolves = 4096

// Solve returns the choices that no other one beats at every length, by their losses ascending from the first length on, and the
// number of knapsacks solved. A combination of limits that nothing keeps is left out; where the budgets themselves
// cannot be kept the error is a *LimitError.
func (f *Frontier) Solve() ([]Candidate, int, error) {
	n := len(f.Loss)
	if n == 0 || len(f.Lengths) != n {
		return nil, 0, fmt.Errorf("heads: frontier: losses at %d lengths for %d lengths", n, len(f.Lengths))
	}
	ranges := orDefault(f.Ranges, 4)
	combinations := math.Pow(float64(ranges), float64(n-1))
	if ranges < 1 || float64(n)*(1+combinations) > maxSolves {
		return nil, 0, fmt.Errorf("heads: frontier: %d lengths in %d ranges are more than %d knapsacks", n, ranges, maxSolves)
	}
	aims := f.aims()
	first, err := f.run(aims, n, func(i int) (int, []LossLimit) { return i, nil })
	if err != nil {
		return nil, 0, err
	}
	all := slices.Clone(first)
	solves := n
	if n > 1 {
		limits := f.limits(first, ranges)
		each := int(combinations)
		more, err := f.run(aims, n*each, func(i int) (int, []LossLimit) { return f.combination(i/each, i%each, limits) })
		if err != nil {
			return nil, 0, err
		}
		all = append(all, more...)
		solves += n * each
	}
	return nonDominated(all), solves, nil
}

// limits returns for each objective the ends of its ranges: from the best value to the worst among the choices that are best for some
// objective, the best itself left out.
func (f *Frontier) limits(first []Candidate, ranges int) [][]float64 {
	limits := make([][]float64, len(f.Loss))
	for o := range limits {
		best, worst := math.Inf(1), math.Inf(-1)
		for _, c := range first {
			best, worst = math.Min(best, c.Loss[o]), math.Max(worst, c.Loss[o])
		}
		for i := 1; i <= ranges; i++ {
			limits[o] = append(limits[o], best+float64((worst-best)*float64(i)/float64(ranges)))
		}
	}
	return limits
}

// combination returns the limits of one solve: the digits of its number choose a range for each objective but the primary one.
func (f *Frontier) combination(primary, number int, limits [][]float64) (int, []LossLimit) {
	var list []LossLimit
	for o := range f.Loss {
		if o == primary {
			continue
		}
		list = append(list, LossLimit{Length: f.Lengths[o], Loss: f.Loss[o], Max: limits[o][number%len(limits[o])]})
		number /= len(limits[o])
	}
	return primary, list
}

// run solves n knapsacks. Without limits on losses, each must have a solution; with them, those without are left out.
func (f *Frontier) run(aims [][][][]float64, n int, spec func(i int) (int, []LossLimit)) ([]Candidate, error) {
	found, errs := make([]*Candidate, n), make([]error, n)
	each := f.For
	if each == nil {
		each = func(n int, body func(int)) {
			for i := range n {
				body(i)
			}
		}
	}
	each(n, func(i int) {
		primary, limits := spec(i)
		k := &Knapsack{Loss: aims[primary], Caches: f.Caches, Losses: limits, Distinct: f.Distinct, Iterations: f.Iterations, Nodes: f.Nodes}
		s, err := k.Solve()
		var limit *LimitError
		if errors.As(err, &limit) && len(limits) > 0 {
			return
		}
		if errs[i] = err; err == nil {
			found[i] = &Candidate{Rule: s.Rule, Loss: f.losses(s.Rule), Density: s.Density, Gap: s.Gap, Length: f.Lengths[primary]}
		}
	})
	var list []Candidate
	for i, c := range found {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if c != nil {
			list = append(list, *c)
		}
	}
	return list, nil
}

// losses sums each objective over the heads, layer by layer.
func (f *Frontier) losses(rule [][]int) []float64 {
	out := make([]float64, len(f.Loss))
	for o, table := range f.Loss {
		for l, row := range rule {
			for g, r := range row {
				out[o] += table[l][g][r]
			}
		}
	}
	return out
}

// nonDominated keeps the choices that no other one is at least as good as everywhere and better somewhere, without repeats, in
// the order of their losses and then of their rules.
func nonDominated(all []Candidate) []Candidate {
	slices.SortStableFunc(all, func(a, b Candidate) int {
		if c := slices.Compare(a.Loss, b.Loss); c != 0 {
			return c
		}
		return slices.CompareFunc(a.Rule, b.Rule, func(x, y []int) int { return slices.Compare(x, y) })
	})
	var keep []Candidate
	for i, c := range all {
		beaten := i > 0 && slices.EqualFunc(all[i-1].Rule, c.Rule, func(x, y []int) bool { return slices.Equal(x, y) })
		for _, o := range all {
			beaten = beaten || dominates(o.Loss, c.Loss)
		}
		if !beaten {
			keep = append(keep, c)
		}
	}
	return keep
}

func dominates(a, b []float64) bool {
	better := false
	for i := range a {
		if a[i] > b[i] {
			return false
		}
		better = better || a[i] < b[i]
	}
	return better
}

// Winner measures every candidate once by a held-out loss and returns the index of the best and all losses, rounded by [Round];
// of equals the first wins. MoA: the cross-entropy at a length that no rule was chosen at.
func Winner(candidates []Candidate, heldOut func(c *Candidate) (float64, error)) (int, []float64, error) {
	if len(candidates) == 0 {
		return 0, nil, errors.New("heads: winner: no candidates")
	}
	best, losses := 0, make([]float64, len(candidates))
	for i := range candidates {
		v, err := heldOut(&candidates[i])
		if err != nil {
			return 0, nil, fmt.Errorf("heads: winner: candidate %d: %w", i, err)
		}
		if math.IsNaN(v) {
			return 0, nil, fmt.Errorf("heads: winner: candidate %d: the held-out loss is not a number", i)
		}
		if losses[i] = Round(v); losses[i] < losses[best] {
			best = i
		}
	}
	return best, losses, nil
}
