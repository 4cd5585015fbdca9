package heads

import (
	"context"
	"fmt"
	"sort"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// XAttentionOptions says how thresholds are searched.
type XAttentionOptions struct {
	Block, Stride int // of block_topk; 0 for 128 and 16
	// Share is the part of the attention that the selected blocks must retain on every window, as a mean over queries.
	Share float64
	// Grid holds the thresholds to choose from; nil for 0.5, 0.55, … 0.95, 0.99. Dense attention is always the last resort.
	Grid         []float64
	SampleBlocks int // blocks of queries that attention is measured on, spread over a window; 0 for all
	Options
}

func (o *XAttentionOptions) fill() error {
	if o.Block == 0 {
		o.Block = 128
	}
	if o.Stride == 0 {
		o.Stride = 16
	}
	if o.Grid == nil {
		for n := range 10 {
			o.Grid = append(o.Grid, float64(50+5*n)/100)
		}
		o.Grid = append(o.Grid, 0.99)
	}
	o.Grid = append([]float64(nil), o.Grid...)
	sort.Float64s(o.Grid)
	if o.Block < 1 || o.Stride < 1 || !(o.Share > 0 && o.Share <= 1) {
		return fmt.Errorf("heads: xattention with blocks of %d, stride %d and a share of %v", o.Block, o.Stride, o.Share)
	}
	for _, v := range o.Grid {
		if !(v > 0 && v <= 1) {
			return fmt.Errorf("heads: xattention threshold %v is not in (0, 1]", v)
		}
	}
	return nil
}

func (o *XAttentionOptions) policy(threshold float64) manifest.Policy {
	return manifest.Policy{Kind: manifest.KindBlockTopK, Selector: "xattention", Block: o.Block, Stride: o.Stride, Threshold: threshold}
}

// XAttention chooses for each query head the smallest threshold of block_topk by antidiagonal scores (XAttention,
// arXiv:2503.16428, section 3.2 by its goal) at which the blocks that it selects retain at least the asked share of the
// attention that queries really pay, on every window: so the largest over the windows of what each needs. Where no
// threshold does, the head stays full. The policies are written into p, with evidence "xattention" per query head: the
// least share retained on a window. Layers with a sliding window are left alone.
//
// It costs one forward pass and the sampled share of dense attention in rows; memory beyond the pass is 16*T bytes per
// thread, and 16 bytes per query head, threshold and window.
func XAttention(ctx context.Context, m *nn.Model, w calib.Windows, p *manifest.Plan, opt XAttentionOptions) (*Patterns, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if len(w.IDs) == 0 {
		return nil, fmt.Errorf("heads: no windows")
	}
	windows := longestFirst(w.IDs)
	s := newPatternSearch(m, windows) // losses hold mass alone, by threshold
	pairs := make([][][]int64, len(m.Arch.Layers))
	for l, a := range m.Arch.Layers {
		pairs[l] = make([][]int64, a.H)
	}
	tap := func(layer, window int, r rows) {
		if r.window > 0 {
			return
		}
		blocks := r.blocks(opt.Block)
		r.Read(nn.Queries | nn.Keys)
		r.Dev.For(r.Shape.H, func(h int) {
			var n []int64
			s.losses[window][layer][h], n = opt.retained(r, h, blocks)
			if window == 0 {
				pairs[layer][h] = n
			}
		})
	}
	if err := opt.observe(ctx, m, windows, tap, nil); err != nil {
		return nil, err
	}
	out := opt.choose(s, pairs)
	if err := out.write(p, m.Arch.Layers); err != nil {
		return nil, err
	}
	e := evidencePer(&Scores{Method: "xattention", Unit: "retained attention mass", Samples: len(windows), Query: out.Mass}, 0, w.Digest)
	p.Evidence = append(p.Evidence, e)
	return out, nil
}

// retained measures the attention of head h that the blocks selected at each threshold of the grid retain, and the pairs
// that they compute over the sampled queries; the last pair count is that of dense attention.
// blocks holds the attention of blocks of queries to blocks of keys, nil where it is to be computed.
func (o *XAttentionOptions) retained(r rows, h int, blocks []float64) ([]patternLoss, []int64) {
	losses, pairs := make([]patternLoss, len(o.Grid)), make([]int64, len(o.Grid)+1)
	head := r.head(h)
	scores := nn.BlockScores(head, head.T, o.policy(1))
	var at nn.RowAttention
	sample := sampleRows(head.T, o.Block, o.SampleBlocks, 0)
	for len(sample) > 0 {
		b := sample[0] / o.Block
		q0, q1 := b*o.Block, min((b+1)*o.Block, head.T)
		sample = sample[q1-q0:]
		mass := make([]float64, b+1)
		for i := q0; i < q1; i++ {
			pairs[len(o.Grid)] += int64(i + 1)
			if blocks != nil {
				continue
			}
			weights, _ := at.Weights(head, i, []nn.Span{{Lo: 0, Hi: i + 1}})
			for j, v := range weights {
				mass[j/o.Block] += float64(v)
			}
		}
		if n := device.AttnBands(head.T, o.Block); blocks != nil {
			mass = blocks[(h*n+b)*n:][:b+1]
		}
		estimate := scores(q0, q1)
		for n, threshold := range o.Grid {
			chosen := &nn.BlockPattern{From: q0, Block: o.Block, Keys: [][]int{nn.ChooseBlocks(estimate, b, o.policy(threshold))}}
			for _, c := range chosen.Keys[0] {
				losses[n].mass += mass[c]
			}
			losses[n].rows += q1 - q0
			pairs[n] += blockPairs(chosen, q0, q1)
		}
	}
	return losses, pairs
}

// choose takes the smallest threshold that retains the share on every window.
func (o *XAttentionOptions) choose(s *patternSearch, pairs [][][]int64) *Patterns {
	layers := s.m.Arch.Layers
	out := newPatterns("xattention", layers, len(s.losses))
	out.Error = nil
	for l, a := range layers {
		for h := 0; h < a.H && pairs[l][h] != nil; h++ {
			out.Policy[l][h] = manifest.Full()
			for n := len(o.Grid) - 1; n >= 0; n-- {
				least := 1.0
				for w := range s.losses {
					least = min(least, s.losses[w][l][h][n].retained())
				}
				if Round(least) < Round(o.Share) {
					continue
				}
				out.Policy[l][h], out.Mass[l][h] = o.policy(o.Grid[n]), least
				out.Work[l][h] = float64(pairs[l][h][n]) / float64(pairs[l][h][len(o.Grid)])
			}
		}
	}
	return out
}
