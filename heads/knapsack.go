package heads

import (
	"errors"
	"fmt"
	"math"
)

// Knapsack is the choice of one rule for each KV head: a multiple-choice knapsack with a budget for each length, MoA's plan search
// (arXiv:2406.14909, equation 5). It is solved without an external solver: a Lagrangian relaxation with one multiplier for each
// budget gives a lower bound and near-feasible choices, which are repaired and improved, and a bounded search closes small instances.
// For up to three distinct rules a layer (and 48 rules) the relaxation is solved exactly over sets of rules; for more, its bound is that of any
// number of rules, and the gap says more than what is lost.
//
// Peak memory, for n KV heads, R rules and C limits, least densities counted too: about 8·n·R·(C+3) bytes besides the caller's tables, and
// 8·n·R·(C+9) more where the number of rules is not limited.
type Knapsack struct {
	// Loss is what is minimised, summed over KV heads: [layer][KV head][rule]. A layer without attention has an empty row.
	Loss   [][][]float64
	Caches []CacheLimit
	Losses []LossLimit
	// Distinct is the most rules that the KV heads of one layer may use together, 0 for any number. MoA: 2.
	Distinct int
	// Iterations of the multipliers; 0 for 200.
	Iterations int
	// Nodes bounds the search that closes small instances and looks for a plan where repair found none; 0 for 100000,
	// negative for no search.
	Nodes int
}

// CacheLimit bounds the mean density of the cache at one length: Σ Size / Σ Dense over KV heads.
type CacheLimit struct {
	Length int
	Size   [][]int64 // [layer][rule]: tokens, or bytes, that a KV head of the layer keeps
	Dense  []int64   // [layer]: the same without a plan
	Max    float64   // largest mean density
	Min    float64   // least mean density, 0 for none; MoA asks for 0.9·Max
}

// LossLimit bounds another loss, the epsilon constraint of a search with several objectives.
type LossLimit struct {
	Length int
	Loss   [][][]float64 // [layer][KV head][rule]
	Max    float64
}

// Solution is a choice of rules that keeps every limit.
type Solution struct {
	Rule [][]int // [layer][KV head]
	Loss float64
	// Bound is a lower bound of the loss of every choice that keeps the limits, rounding errors allowed for.
	Bound   float64
	Gap     float64   // Loss-Bound by the larger of |Loss| and |Bound|, 0 where they are equal
	Proved  bool      // the search ended: no choice has a smaller loss but for rounding errors
	Density []float64 // mean density under each of Caches
}

// What keeps a knapsack from a solution.
var (
	// ErrInfeasible: no choice of rules keeps the limits.
	ErrInfeasible = errors.New("no choice of rules keeps the limits")
	// ErrNotFound: none was found within the nodes of the search, and none was ruled out.
	ErrNotFound = errors.New("no choice of rules that keeps the limits was found")
)

// LimitError names the limit that is hardest to keep. It wraps ErrInfeasible or ErrNotFound.
type LimitError struct {
	Length int
	What   string  // "density", "least density" or "loss"
	Least  float64 // best value that was reached of what is limited, with no regard to other limits where Alone
	Limit  float64
	Alone  bool // the limit cannot be kept even by itself
	Err    error
}

func (e *LimitError) Error() string {
	how := "together with the other limits"
	if e.Alone {
		how = "by itself"
	}
	return fmt.Sprintf("heads: knapsack: %v: %s at %d tokens, %s: reaches %.6g, the limit is %.6g", e.Err, e.What, e.Length, how, e.Least, e.Limit)
}

// Unwrap returns ErrInfeasible or ErrNotFound.
func (e *LimitError) Unwrap() error { return e.Err }

// Solve returns the best choice that was found. It is deterministic. Tables of wrong shape or with numbers that are not finite are
// errors; limits that cannot be kept are a *LimitError.
func (k *Knapsack) Solve() (*Solution, error) {
	p, err := newProgram(k)
	if err != nil {
		return nil, err
	}
	if err := p.alone(); err != nil {
		return nil, err
	}
	d := p.relax(max(1, orDefault(k.Iterations, 200)))
	if d.infeasible {
		return nil, p.failed(d, true)
	}
	best := p.improveAll(d)
	nodes := orDefault(k.Nodes, 100000)
	proved := false
	if nodes > 0 {
		b := &branch{p: p, d: d, nodes: nodes}
		best, proved = b.search(best)
	}
	if best == nil {
		return nil, p.failed(d, proved)
	}
	return p.solution(k, d, best, proved), nil
}

func orDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

func (p *program) solution(k *Knapsack, d *dual, best *choice, proved bool) *Solution {
	s := &Solution{Loss: best.loss, Bound: math.Min(d.bound, best.loss), Proved: proved}
	// Sums of smaller terms in one order are no larger, rounded or not: this bound needs no allowance.
	s.Bound = math.Max(s.Bound, p.least(p.f))
	if proved {
		s.Bound = math.Max(s.Bound, best.loss-2*p.slack(d.lambda))
	}
	if s.Loss != s.Bound {
		s.Gap = (s.Loss - s.Bound) / math.Max(math.Abs(s.Loss), math.Abs(s.Bound))
	}
	s.Rule = make([][]int, len(p.first)-1)
	for l := range s.Rule {
		s.Rule[l] = append([]int{}, best.rule[p.first[l]:p.first[l+1]]...)
	}
	for _, c := range k.Caches {
		var size, dense int64
		for l, row := range s.Rule {
			for _, r := range row {
				size += c.Size[l][r]
				dense += c.Dense[l]
			}
		}
		s.Density = append(s.Density, float64(size)/math.Max(1, float64(dense)))
	}
	return s
}

// alone reports a limit that no choice keeps even if it were the only one.
func (p *program) alone() error {
	for i := range p.rows {
		if row := &p.rows[i]; p.least(row.a) > row.b {
			return p.limitError(i, p.least(row.a), true, ErrInfeasible)
		}
	}
	return nil
}

// least is a lower bound of the sum of coefficients over all choices: each head takes its smallest.
func (p *program) least(a []float64) float64 {
	var sum float64
	for h := range p.layer {
		least := math.Inf(1)
		for r := range p.R {
			least = math.Min(least, a[p.at(h, r)])
		}
		sum += least
	}
	return sum
}

// failed names the limit that the most nearly feasible choice misses by most.
func (p *program) failed(d *dual, ruledOut bool) error {
	err := ErrNotFound
	if ruledOut {
		err = ErrInfeasible
	}
	worst, by := 0, 0.0
	for i := range p.rows {
		if over := (d.nearest.total[i] - p.rows[i].b) * p.rows[i].inv; over > by {
			worst, by = i, over
		}
	}
	return p.limitError(worst, d.nearest.total[worst], false, err)
}

func (p *program) limitError(i int, least float64, alone bool, err error) error {
	row := &p.rows[i]
	return &LimitError{Length: row.length, What: row.what, Least: least * row.unit, Limit: row.b * row.unit, Alone: alone, Err: err}
}
