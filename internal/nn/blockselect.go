package nn

import (
	"modelpress/formats/manifest"
	"modelpress/internal/num"
)

// SelectBlocks chooses blocks of keys for every block of the queries [lo, hi) of one head, as a block_topk policy says.
// Blocks of queries are counted from lo, those of keys from 0. The window of h is in force.
func SelectBlocks(h num.AttnHead, lo, hi int, p manifest.Policy) *BlockPattern {
	out := &BlockPattern{From: lo, Block: p.Block}
	scores := BlockScores(h, hi, p)
	for q0 := lo; q0 < hi; q0 += p.Block {
		q1 := min(q0+p.Block, hi)
		out.Keys = append(out.Keys, ChooseBlocks(scores(q0, q1), q0/p.Block, p))
	}
	return out
}

// BlockScores returns a function that scores the blocks of keys [0, ⌈q1/block⌉) for the queries [q0, q1), as the selector
// of p does; keys from hi on do not exist.
func BlockScores(h num.AttnHead, hi int, p manifest.Policy) func(q0, q1 int) []float64 {
	if p.Selector == "mean_pool" {
		m := poolKeys(h, hi, p.Block)
		return func(q0, q1 int) []float64 { return m.scores(h, q0, q1) }
	}
	return func(q0, q1 int) []float64 { return AntidiagonalShares(h, q0, q1, p.Block, p.Stride) }
}

// ChooseBlocks keeps blocks by their scores: for mean_pool the p.Blocks best; for xattention the fewest whose share of the
// sum reaches p.Threshold, all of them where that is 1. Blocks from own on, those of the queries themselves, are always
// kept and count. Ascending; of equal scores the earlier block is kept.
func ChooseBlocks(scores []float64, own int, p manifest.Policy) []int {
	var forced []int
	for c := own; c < len(scores); c++ {
		forced = append(forced, c)
	}
	if p.Selector == "mean_pool" {
		return best(scores, p.Blocks, 0, forced...)
	}
	return best(scores, fewest(scores, own, p.Threshold), 0, forced...)
}

// fewest returns how many blocks reach the share of the sum, those from own on first.
func fewest(scores []float64, own int, share float64) int {
	if share >= 1 {
		return len(scores)
	}
	total, sum := 0.0, 0.0
	for c, v := range scores {
		total += v
		if c >= own {
			sum += v
		}
	}
	n := len(scores) - own
	for _, c := range order(scores[:own]) {
		if sum >= float64(share*total) {
			break
		}
		sum += scores[c]
		n++
	}
	return n
}

// AntidiagonalShares estimates which share of their attention the queries [q0, q1) give to each block of keys, by
// XAttention (arXiv:2503.16428, section 2.1): queries and keys are taken in groups of stride within their blocks, the
// score of two groups is the mean of scale*q·k over their antidiagonal, and a softmax over the groups of keys that are
// not later than the group of queries gives shares, which sum to 1. Where groups differ in length the antidiagonal is
// wrapped round. Memory: 12 bytes per group of keys.
func AntidiagonalShares(h num.AttnHead, q0, q1, block, stride int) []float64 {
	shares := make([]float64, (q1+block-1)/block)
	stride = min(stride, block)
	groups := 0
	var logits []float32
	for a := q0; a < q1; a += stride {
		end := min(a+stride, q1)
		low := MaskPattern{Recent: h.Recent}.low(a)
		logits = logits[:0]
		eachGroup(end, block, stride, low, func(_, b0, b1 int) {
			logits = append(logits, antidiagonal(h, a, end, b0, min(b1, q1)))
		})
		num.Softmax(logits, logits)
		at := 0
		eachGroup(end, block, stride, low, func(c, _, _ int) {
			shares[c] += float64(logits[at])
			at++
		})
		groups++
	}
	for c := range shares {
		shares[c] /= float64(groups)
	}
	return shares
}

// eachGroup calls f with the block and the bounds of every group of keys that starts before end and reaches past low.
func eachGroup(end, block, stride, low int, f func(c, b0, b1 int)) {
	for c := low / block; c*block < end; c++ {
		for b0 := c * block; b0 < min((c+1)*block, end); b0 += stride {
			if b1 := min(b0+stride, (c+1)*block); b1 > low {
				f(c, b0, b1)
			}
		}
	}
}

// antidiagonal returns the mean score of the queries [a, end) with the keys [b0, b1), paired last to first.
func antidiagonal(h num.AttnHead, a, end, b0, b1 int) float32 {
	var sum float32
	for x := range end - a {
		y := b1 - 1 - x%(b1-b0)
		sum += num.Dot(queryOf(h, a+x), h.K[y*h.LDK:][:h.Dim])
	}
	return h.Scale * sum / float32(end-a)
}

// pooledKeys holds the mean key of each block, [blocks, Dim].
type pooledKeys struct {
	block int
	mean  []float64
}

// poolKeys averages blocks of the keys [0, hi). Memory: 8*Dim bytes a block.
func poolKeys(h num.AttnHead, hi, block int) *pooledKeys {
	n := (hi + block - 1) / block
	m := &pooledKeys{block: block, mean: make([]float64, n*h.Dim)}
	for c := range n {
		mean(m.mean[c*h.Dim:][:h.Dim], h.K, h.LDK, c*block, min((c+1)*block, hi))
	}
	return m
}

func mean(dst []float64, x []float32, ld, lo, hi int) {
	for i := lo; i < hi; i++ {
		num.AddWide(dst, x[i*ld:][:len(dst)])
	}
	for c := range dst {
		dst[c] /= float64(hi - lo)
	}
}

// scores is scale times the mean query of [q0, q1) with the mean key of each block (MInference, arXiv:2407.02490,
// section 3.2); blocks outside of the window get -1e300, so that any other is before them.
func (m *pooledKeys) scores(h num.AttnHead, q0, q1 int) []float64 {
	q := make([]float64, h.Dim)
	mean(q, h.Q, h.LDQ, q0, q1)
	low := MaskPattern{Recent: h.Recent}.low(q0)
	out := make([]float64, (q1+m.block-1)/m.block)
	for c := range out {
		if (c+1)*m.block <= low {
			out[c] = -1e300
			continue
		}
		out[c] = float64(h.Scale) * num.Dot64(q, m.mean[c*h.Dim:][:h.Dim])
	}
	return out
}
