package heads

import (
	"fmt"
	"math"
	"sort"

	"modelpress/internal/arch"
)

// RoundUp returns tokens in whole pages; a page of 0 or 1 changes nothing.
func RoundUp(tokens, page int) int {
	if page < 2 {
		return tokens
	}
	return (tokens + page - 1) / page * page
}

// DenseUpTo returns the greatest length n at which a head of sink+recent tokens saves less than the given share of its
// cache, 1 − (sink+recent)/n < saving, or saves nothing: up to it a plan does better to stay dense. saving is in [0, 1).
func DenseUpTo(sink, recent int, saving float64) int {
	kept := sink + recent
	const longest = 1 << 30 // tokens that a plan may state
	n := max(kept, int(math.Min(longest, float64(kept)/(1-saving))))
	for n > kept && float64(n-kept) >= saving*float64(n) { // the quotient may have been rounded up
		n--
	}
	return n
}

// SelectBudget keeps as many heads full as the KV cache of one sequence of the given length allows: its bytes under the
// plan must not exceed a share of the dense cache's, by [KVBytes]. Heads come in the order of [SelectCount]. It is an
// error where the share is not reached with every head streaming.
func SelectBudget(m *arch.Model, scores [][]float64, share float64, sink, recent, length int) (Selection, Cache, error) {
	if err := shaped(m, "scores", scores); err != nil {
		return Selection{}, Cache{}, err
	}
	if !(share >= 0 && share <= 1) || sink < 0 || recent < 1 || length < 1 {
		return Selection{}, Cache{}, fmt.Errorf("heads: share %g of the cache at %d tokens, %d sinks, %d recent tokens", share,
			length, sink, recent)
	}
	const bf16Bytes = 2
	none := SelectCount(scores, 0)
	c := KVBytes(m, none.Full, sink, recent, bf16Bytes, length)
	bound := int64(math.Floor(share*float64(c.Dense) + 1e-6))
	if c.Planned > bound {
		return Selection{}, c, fmt.Errorf("heads: with every head streaming (%d sinks, %d recent tokens), the cache of %d tokens "+
			"is %.4g of the dense one; %g was asked for", sink, recent, length, c.Density(), share)
	}
	// Bytes grow with the count: the order of heads does not depend on it, and a full head never takes less.
	n := sort.Search(none.Total, func(n int) bool {
		return KVBytes(m, SelectCount(scores, n+1).Full, sink, recent, bf16Bytes, length).Planned > bound
	})
	s := SelectCount(scores, n)
	return s, KVBytes(m, s.Full, sink, recent, bf16Bytes, length), nil
}
