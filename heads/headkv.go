package heads

import (
	"context"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// HeadKV returns the R2 score of each head (Fu et al., "Not All Heads Matter", arXiv:2410.19258): a head earns, at each
// answer step, the attention that its n most attended positions give to the needle, over n, the tokens of the needle; so
// attention that is spread over the needle counts, where [Wu] counts the first position alone. The score is the sum over
// the answer's steps, averaged over the prompts whose answer has an F1 above a half; since the model gives as many tokens as
// the answer has, F1 is their recall. The score of a KV head is the maximum over its query heads. Memory beyond the
// forward pass is 8·T bytes a thread.
func HeadKV(ctx context.Context, m *nn.Model, prompts []calib.Prompt, opt Options) (*Scores, error) {
	t := newTable(m.Arch.Layers, len(prompts))
	tap := func(layer, prompt int, r rows) {
		if d := r.reader(); d != nil {
			needleTops(t.v[prompt][layer], d, r, prompts[prompt])
			return
		}
		r.Read(nn.Queries | nn.Keys | nn.LSE)
		r.Dev.For(r.Shape.H, func(h int) { t.v[prompt][layer][h] = needleTop(r, prompts[prompt], h) })
	}
	_, keep, err := overPrompts(ctx, m, prompts, opt, tap)
	if err != nil {
		return nil, err
	}
	mean, n := t.mean(keep)
	return t.scores("headkv", "attention mass per needle token", mean, n), nil
}

// needleTop sums over answer steps the attention to those of the n most attended positions that lie in the needle, over n.
func needleTop(r rows, p calib.Prompt, h int) float64 {
	n := p.NeedleHi - p.NeedleLo
	row := make([]float64, r.Shape.T)
	var ids []int32
	var sum float64
	for j := range p.Answer {
		i := len(p.IDs) - 1 + j
		r.row(row[:i+1], h, i)
		ids, sum = needleOf(ids, sum, row[:i+1], p)
	}
	return sum / float64(n)
}

// needleOf adds to sum what a row gives to those of its n most attended positions that lie in the needle of n tokens. ids is room.
func needleOf(ids []int32, sum float64, row []float64, p calib.Prompt) ([]int32, float64) {
	ids = topKeys(ids[:0], row, p.NeedleHi-p.NeedleLo)
	for _, at := range ids {
		if int(at) >= p.NeedleLo && int(at) < p.NeedleHi {
			sum += row[at]
		}
	}
	return ids, sum
}

// needleTops is needleTop for all heads, where the device reads attention.
func needleTops(sums []float64, d device.AttnReader, r rows, p calib.Prompt) {
	first, t := len(p.IDs)-1, r.Shape.T
	r.weightRows(d, first, first+len(p.Answer), func(lo, hi int, a []float32) {
		r.Dev.For(r.Shape.H, func(h int) {
			row := make([]float64, t)
			for i := lo; i < hi; i++ {
				widen(row[:i+1], a[(h*(hi-lo)+i-lo)*t:])
				_, sums[h] = needleOf(nil, sums[h], row[:i+1], p)
			}
		})
	})
	for h := range sums {
		sums[h] /= float64(p.NeedleHi - p.NeedleLo)
	}
}

// widen copies the first values of src to dst.
func widen(dst []float64, src []float32) {
	for i := range dst {
		dst[i] = float64(src[i])
	}
}
