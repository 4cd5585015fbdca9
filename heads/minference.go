package heads

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/num"
)

// MInferenceOptions says how prefill patterns are searched. Sink and Recent are the A-shape whose work every other
// candidate is given.
type MInferenceOptions struct {
	Sink, Recent int
	LastQ        int // last queries that vertical_slash is estimated from; 0 for 64
	Block        int // block size of block_topk, and of the sampled queries; 0 for 64
	// ForceVertical columns and ForceSlash distances are always part of vertical_slash.
	ForceVertical, ForceSlash int
	SampleBlocks              int // blocks of queries that losses are measured on, spread over a window; 0 for all
	// From is the first query whose loss counts: 2500 in the reference implementation, as early ones see little, or where
	// the answers of prompts begin.
	From int
	Options
}

func (o *MInferenceOptions) fill() {
	if o.LastQ == 0 {
		o.LastQ = 64
	}
	if o.Block == 0 {
		o.Block = 64
	}
}

// verticalShares are the shares of vertical_slash's budget that go to columns: about those of the search space of the
// reference implementation, (30, 800), (100, 750), (500, 700) and (3500, 100).
var verticalShares = []float64{0.04, 0.12, 0.42, 0.97}

// MInference chooses a prefill pattern for each query head by the kernel-aware search of MInference (arXiv:2407.02490,
// algorithm 1): an A-shape, vertical_slash by several splits of its budget, and block_topk by mean pooling get budgets at
// which they compute as many query-key pairs, or just fewer, as the A-shape does on the longest window; the head gets the
// one whose output is closest to dense attention on all windows. Ties go to the A-shape, then to the fewer columns. The
// policies are written into p, with evidence "minference" per query head. Layers with a sliding window are left alone.
//
// It costs one forward pass, and per head about six times the sampled share of dense attention in rows. Memory beyond the
// pass: per thread 80*T bytes, and 200 bytes per query head, candidate and window.
func MInference(ctx context.Context, m *nn.Model, w calib.Windows, p *manifest.Plan, opt MInferenceOptions) (*Patterns, error) {
	opt.fill()
	if opt.Sink < 0 || opt.Recent < 1 || opt.LastQ < 0 || opt.Block < 0 || opt.ForceVertical < 0 || opt.ForceSlash < 0 || opt.From < 0 {
		return nil, fmt.Errorf("heads: minference with %d sinks, %d recent tokens, %d last queries, blocks of %d", opt.Sink, opt.Recent, opt.LastQ, opt.Block)
	}
	windows := longestFirst(w.IDs)
	if len(windows) == 0 || len(windows[0]) <= max(opt.Sink+opt.Recent, opt.From) {
		return nil, fmt.Errorf("heads: no window is longer than %d sinks and %d recent tokens, and %d", opt.Sink, opt.Recent, opt.From)
	}
	s := newPatternSearch(m, windows)
	var failed error
	tap := func(layer, window int, r rows) {
		if r.window > 0 || failed != nil {
			return
		}
		sample := sampleRows(r.Shape.T, opt.Block, opt.SampleBlocks, opt.From)
		if d := r.reader(); d != nil {
			failed = opt.tapThere(d, s, layer, window, r, sample)
			return
		}
		r.Read(nn.AllHeads | nn.Outputs | nn.LSE)
		r.Dev.For(r.Shape.H, func(h int) {
			head := r.head(h)
			ranked := nn.RankVerticalSlash(nn.Estimate(head, 0, head.T, opt.LastQ))
			if window == 0 {
				s.candidates[layer][h] = opt.candidates(head.T, ranked)
			}
			for _, c := range s.candidates[layer][h] {
				s.losses[window][layer][h] = append(s.losses[window][layer][h], r.patternLoss(h, sample, opt.pattern(c, head, ranked)))
			}
		})
	}
	if err := errors.Join(opt.observe(ctx, m, windows, tap, nil), failed); err != nil {
		return nil, err
	}
	out := s.choose("minference")
	if err := out.write(p, m.Arch.Layers); err != nil {
		return nil, err
	}
	p.Evidence = append(p.Evidence, evidencePer(out.Error, 0, w.Digest))
	return out, nil
}

// tapThere measures the candidates of all heads of a layer, where the device reads attention: one candidate after the other.
func (o *MInferenceOptions) tapThere(d device.AttnReader, s *patternSearch, layer, window int, r rows, sample []int) error {
	columns, diagonals := r.estimates(d, o.LastQ)
	r.Read(nn.Queries | nn.Keys)
	patterns := make([][]nn.Pattern, r.Shape.H)
	r.Dev.For(r.Shape.H, func(h int) {
		head, ranked := r.head(h), nn.RankVerticalSlash(columns[h], diagonals[h])
		if window == 0 {
			s.candidates[layer][h] = o.candidates(head.T, ranked)
		}
		for _, c := range s.candidates[layer][h] {
			patterns[h] = append(patterns[h], o.pattern(c, head, ranked))
		}
	})
	return s.lossesThere(d, layer, window, r, sample, patterns)
}

// longestFirst returns the windows with the first of the longest in front.
func longestFirst(ids [][]int32) [][]int32 {
	out := append([][]int32(nil), ids...)
	sort.SliceStable(out, func(a, b int) bool { return len(out[a]) > len(out[b]) })
	return out
}

// candidates returns the policies of equal work on a window of t tokens, in the order of preference.
func (o *MInferenceOptions) candidates(t int, ranked *nn.RankedVerticalSlash) []candidate {
	target := maskPairs(t, o.Sink, o.Recent)
	list := []candidate{{manifest.Streaming(o.Sink, o.Recent), target}}
	for _, share := range verticalShares {
		list = append(list, o.verticalSlash(t, share, target, ranked))
	}
	blocks := atMost((t+o.Block-1)/o.Block, target, func(n int) int64 { return topBlockPairs(t, o.Block, n) })
	return append(list, candidate{manifest.Policy{Kind: manifest.KindBlockTopK, Selector: "mean_pool", Block: o.Block, Blocks: blocks},
		topBlockPairs(t, o.Block, blocks)})
}

// verticalSlash gives columns and diagonals as large a budget as the target allows.
func (o *MInferenceOptions) verticalSlash(t int, share float64, target int64, ranked *nn.RankedVerticalSlash) candidate {
	policy := func(n int) manifest.Policy {
		v := max(1, int(math.Round(float64(share*float64(n)))))
		return manifest.Policy{Kind: manifest.KindVerticalSlash, Vertical: v, Slash: max(1, n-v), LastQ: o.LastQ,
			ForceVertical: o.ForceVertical, ForceSlash: o.ForceSlash}
	}
	pairs := func(n int) int64 { return topVertical(policy(n), ranked).Pairs(t) }
	n := atMost(2*t, target, pairs)
	return candidate{policy(n), pairs(n)}
}

func topVertical(p manifest.Policy, ranked *nn.RankedVerticalSlash) *nn.VerticalSlash {
	return ranked.Top(p.Vertical, p.Slash, p.ForceVertical, p.ForceSlash)
}

// pattern returns what a candidate sees in a window.
func (o *MInferenceOptions) pattern(c candidate, head num.AttnHead, ranked *nn.RankedVerticalSlash) nn.Pattern {
	switch c.policy.Kind {
	case manifest.KindVerticalSlash:
		return topVertical(c.policy, ranked)
	case manifest.KindBlockTopK:
		return nn.SelectBlocks(head, 0, head.T, c.policy)
	}
	return nn.MaskPattern{Sink: c.policy.Sink, Recent: c.policy.Recent}
}

// atMost returns the largest n of [1, most] with pairs(n) <= target, 1 where there is none; pairs must not fall.
func atMost(most int, target int64, pairs func(n int) int64) int {
	return max(1, sort.Search(most, func(i int) bool { return pairs(i+1) > target }))
}

// maskPairs returns the pairs that t queries see of sinks and recent tokens.
func maskPairs(t, sink, recent int) int64 {
	w := int64(min(t, sink+recent))
	return w*(w+1)/2 + int64(t)*w - w*w
}

// topBlockPairs returns the pairs of the own block and at most n-1 earlier ones for every block of queries.
func topBlockPairs(t, block, n int) int64 {
	var sum int64
	for r := 0; r*block < t; r++ {
		q := int64(min(block, t-r*block))
		sum += q*(q+1)/2 + int64(min(n-1, r))*q*int64(block)
	}
	return sum
}
