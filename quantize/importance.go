package quantize

import (
	"fmt"
	"math"
)

// Visible says by what the attention that a token receives is divided before it is compared: later tokens have fewer
// queries that can look at them.
type Visible uint8

// The normalizations of RSQ's code. VisibleNone is what its results use.
const (
	VisibleNone Visible = iota // the plain column sum
	VisibleSqrt                // by the square root of the number of queries that see the token
	VisibleAll                 // by the number of queries that see the token
)

// ImportanceRule turns the attention that tokens receive into the weights that they have in the Hessian.
type ImportanceRule struct {
	Min, Max float64 // weights of the least and the most attended token, before they are scaled to a mean of 1
	Divide   Visible
	Window   int // sliding window of the layer in tokens, the query's own included; 0 for full attention
}

// Importance returns the weights of the rule with no normalization, RSQ's attention concentration.
func Importance(colSums []float32, h, t int, min, max float64) []float32 {
	return ImportanceRule{Min: min, Max: max}.Weights(colSums, h, t)
}

// Weights returns the weights of the t tokens of one sequence from the column sums [h, t] of its attention
// probabilities: s_j = Σ over heads and queries of the attention paid to token j, mapped linearly so that the least s
// becomes Min and the greatest Max, and scaled to a mean of 1 so that sequences count alike (RSQ section 3.2,
// arXiv:2503.01820). As in the code of its authors, and unlike its figure 2, these weigh x·xᵀ and not x. Where all s are
// equal, all weights are 1. Sums that are not finite give weights that are not finite, which GPTQ refuses.
func (r ImportanceRule) Weights(colSums []float32, h, t int) []float32 {
	if len(colSums) != h*t || r.Min < 0 || r.Max < r.Min {
		panic(fmt.Sprintf("quantize: %d column sums for %d heads and %d tokens, weights from %v to %v", len(colSums), h, t, r.Min, r.Max))
	}
	s := r.received(colSums, t)
	if i := notFinite(s); i >= 0 {
		return fill(make([]float32, t), float32(s[i]-s[i]))
	}
	w := make([]float32, t)
	if t == 0 {
		return w
	}
	lo, hi := s[0], s[0]
	for _, v := range s {
		lo, hi = min(lo, v), max(hi, v)
	}
	// Equal sums have no order; a difference that is mere rounding of the sums must not become one either.
	if hi-lo <= 1e-6*hi || r.Max == r.Min {
		return fill(w, 1)
	}
	var sum float64
	for j, v := range s {
		s[j] = r.Min + float64((v-lo)/(hi-lo)*(r.Max-r.Min))
		sum += s[j]
	}
	scale := float64(t) / sum
	for j, v := range s {
		w[j] = float32(v * scale)
	}
	return w
}

// received adds up the heads and divides as the rule says.
func (r ImportanceRule) received(colSums []float32, t int) []float64 {
	s := make([]float64, t)
	for i, v := range colSums {
		s[i%t] += float64(v)
	}
	for j := range s {
		s[j] /= r.queries(t, j)
	}
	return s
}

// queries returns the divisor for token j of t.
func (r ImportanceRule) queries(t, j int) float64 {
	seen := float64(t - j)
	if r.Window > 0 {
		seen = min(seen, float64(r.Window))
	}
	switch r.Divide {
	case VisibleAll:
		return seen
	case VisibleSqrt:
		return math.Sqrt(seen)
	}
	return 1
}

func fill(w []float32, v float32) []float32 {
	for i := range w {
		w[i] = v
	}
	return w
}
