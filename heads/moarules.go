package heads

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// RuleGrid describes the elastic rules that MoA searches (arXiv:2406.14909, section 4.1): a head keeps S(N) = α + β·N tokens of a
// sequence of N, in whole blocks and never fewer than Min.
//
// The sinks lie inside S(N), as in the paper's runtime and in [manifest.Policy.Span], which is the only definition of a
// size here. The published search put them on top of the span, so that its runtime deployed bands that were Sink tokens
// shorter than those it had measured; losses for these rules must be measured with the sinks inside.
type RuleGrid struct {
	Length int // reference length; α is spread over -Length/4 … Length
	Sink   int // leading tokens that are always kept
	Block  int // sizes are rounded up to whole blocks
	Min    int // least size, sinks included
	// Short adds rules below the published least of Length/8, for budgets that leave most heads next to nothing: Min, 3/2·Min,
	// 2·Min and 3·Min tokens at every length, and 1/32, 1/16 and 3/32 of the length.
	Short bool
}

// PublishedGrid returns the grid of the paper's code: 48 rules around 8192 tokens.
func PublishedGrid() RuleGrid { return RuleGrid{Length: 8192, Sink: 64, Block: 64, Min: 128} }

// The grid's steps: 11 values of α from -Length/4 to Length, 9 of β from 0 to 1.
const (
	gridAlphas = 11
	gridBetas  = 9
)

// Rules returns the rules of the grid as policies of kind elastic, α ascending, then β. It leaves out what the published
// search leaves out: rules with S(Length) > Length, with S(2·Length) > 2·Length, and with S(Length/4) ≤ 0, before blocks and Min.
// 48 remain at every reference length that is a multiple of 8, and Short adds up to 7. It fails where a size is out of range.
func (g RuleGrid) Rules() ([]manifest.Policy, error) {
	const most = 1 << 29
	if g.Length < 8 || g.Length > most || g.Block < 1 || g.Block > most || g.Sink < 0 || g.Min <= g.Sink || g.Min > most {
		return nil, fmt.Errorf("heads: rule grid: length %d, sink %d, block %d, min %d: want a length of 8 to %d, a block of at least 1, and min above sink",
			g.Length, g.Sink, g.Block, g.Min, most)
	}
	n := float64(g.Length)
	var rules []manifest.Policy
	add := func(alpha, beta float64) {
		rules = append(rules, manifest.Policy{Kind: manifest.KindElastic, Alpha: alpha, Beta: beta, Sink: g.Sink, Block: g.Block,
			Min: g.Min, Length: "prompt_plus_max_new"})
	}
	for a := range gridAlphas {
		alpha := float64(n*float64(a)/8) - n/4
		for b := range gridBetas {
			beta := float64(b) / (gridBetas - 1)
			span := func(length float64) float64 { return alpha + float64(beta*length) }
			if span(n) > n || span(2*n) > 2*n || span(n/4) <= 0 {
				continue
			}
			add(alpha, beta)
		}
	}
	if !g.Short {
		return rules, nil
	}
	for _, twice := range []int{2, 3, 4, 6} {
		if size := float64(g.Min*twice) / 2; size < n/8 {
			add(size, 0)
		}
	}
	for _, parts := range []float64{1, 2, 3} {
		add(0, parts/32)
	}
	slices.SortStableFunc(rules, func(a, b manifest.Policy) int {
		return cmp.Or(cmp.Compare(a.Alpha, b.Alpha), cmp.Compare(a.Beta, b.Beta))
	})
	return rules, nil
}

// RuleDensity is the share of a dense cache of length tokens that a policy keeps, at most 1; NaN where its size is only known
// at run time.
func RuleDensity(p manifest.Policy, length int) float64 {
	span := p.Span(length)
	switch {
	case span < 0:
		return math.NaN()
	case length <= 0:
		return 1
	}
	return math.Min(1, float64(span)/float64(length))
}

// fullWithin reports whether an elastic policy keeps every token at each length from 1 to context. Rounding up to blocks is
// the only thing that makes the size minus the length rise, and that difference falls from block to block since β ≤ 1, so that the first
// length of the last block decides.
func fullWithin(p manifest.Policy, context int) bool {
	if p.Kind == manifest.KindFull {
		return true
	}
	if p.Kind != manifest.KindElastic || context < 1 || p.Block < 1 {
		return false
	}
	last := (context-1)/p.Block*p.Block + 1
	return p.Span(last) == last && p.Span(context) == context
}

// CacheLimits returns one limit of the mean density for each length: of the bytes of keys and values under the rules to those without a
// plan, over all KV heads. A layer's own sliding window bounds both. It fails where a rule's size is only known at run time.
func CacheLimits(layers []arch.Layer, rules []manifest.Policy, lengths []int, most, least float64) ([]CacheLimit, error) {
	limits := make([]CacheLimit, len(lengths))
	for i, n := range lengths {
		if n < 1 {
			return nil, fmt.Errorf("heads: cache limit at %d tokens", n)
		}
		c := CacheLimit{Length: n, Max: most, Min: least, Size: make([][]int64, len(layers)), Dense: make([]int64, len(layers))}
		for l, a := range layers {
			dense := tokensKept(n, a.Window)
			c.Dense[l] = dense * int64(max(1, a.K))
			c.Size[l] = make([]int64, len(rules))
			for r, p := range rules {
				span := p.Span(n)
				if span < 0 {
					return nil, fmt.Errorf("heads: a rule of kind %s has no size before it runs", p.Kind)
				}
				c.Size[l][r] = min(dense, int64(span)) * int64(max(1, a.K))
			}
		}
		limits[i] = c
	}
	return limits, nil
}
