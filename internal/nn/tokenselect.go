package nn

import (
	"math"

	"modelpress/internal/num"
)

// Votes returns the attention that each key of [0, hi) receives from the last queries [max(0, hi-window), hi), summed over
// the query heads of one KV head in their order: what SnapKV (arXiv:2404.14469, section 4) chooses tokens by. With a
// window of 1 it is the choice of TidalDecode (arXiv:2410.05076). [hi]; memory 28*hi bytes.
func Votes(heads []num.AttnHead, hi, window int) []float64 {
	total := make([]float64, hi)
	for _, h := range heads {
		columns, _ := Estimate(h, 0, hi, window)
		for j, v := range columns {
			total[j] += v
		}
	}
	return total
}

// SelectTokens keeps max(budget, window) keys: the last window ones, and of the others those with the most votes, the
// earlier of equal ones. Votes are first max-pooled over pool neighbours, half of them on each side, where pool is above
// 1; the last window keys take no part in that. Ascending.
func SelectTokens(votes []float64, budget, window, pool int) []int {
	n := len(votes)
	window = min(window, n)
	rest := n - window
	chosen := best(maxPool(votes[:rest], pool), min(rest, max(0, budget-window)), 0)
	for j := rest; j < n; j++ {
		chosen = append(chosen, j)
	}
	return chosen
}

// maxPool replaces each vote by the largest within pool/2 places.
func maxPool(votes []float64, pool int) []float64 {
	if pool <= 1 {
		return votes
	}
	out := make([]float64, len(votes))
	for j := range votes {
		m := math.Inf(-1)
		for _, v := range votes[max(0, j-pool/2):min(len(votes), j-pool/2+pool)] {
			m = max(m, v)
		}
		out[j] = m
	}
	return out
}
