package heads

import (
	"context"
	"fmt"
	"math"
	"sort"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// LeanKOptions says how many channels of the keys stay. Zero values stand for those in brackets.
type LeanKOptions struct {
	Keep   float64 // share of a head's channels that stay [0.3]; rounded up to a multiple of Align
	Align  int     // what the number of channels that stay is a multiple of [8]; even where the model has rotary embeddings
	Refine int     // exchanges of one channel or pair that are tried for each head; 0 for none
	Options
}

func (o *LeanKOptions) fill(rotary bool) error {
	set(&o.Keep, 0.3)
	set(&o.Align, 8)
	if !(o.Keep > 0 && o.Keep <= 1) || o.Align < 1 || rotary && o.Align%2 != 0 || o.Refine < 0 {
		return fmt.Errorf("heads: a share of %g of the key channels in multiples of %d, %d exchanges", o.Keep, o.Align, o.Refine)
	}
	return nil
}

// count is the number of a head's k channels that stay.
func (o *LeanKOptions) count(k int) int {
	blocks := math.Ceil(float64(o.Keep*float64(k))/float64(o.Align) - 1e-9)
	return min(k, max(1, int(blocks))*o.Align)
}

// LeanK holds a static choice of the key channels of each KV head that stay (in the manner of LeanK, arXiv:2508.02215, which
// learns it). The queries that read a head leave out the same channels; scores keep their scale.
type LeanK struct {
	// Share[l][g][c] is channel c's part in the scores of a KV head: Σ_h mean_t(q²)·mean_t(k²) over its query heads, the mean
	// square of what the channel adds to a score were queries and keys independent (the static form of ThinK, arXiv:2407.21018), over
	// the sum of all channels. With rotary embeddings the two channels that turn together have the sum of both, since each
	// turns into the other with distance, and stay or go together.
	Share [][][]float64
	Keep  [][][]bool // [layer][KV head][channel]
	// Error is ‖out − out_masked‖ / ‖out‖ of a KV head's query heads under its mask, over all windows.
	Error *Scores
}

// FindLeanK takes two forward passes: one for the shares, and one for the error, in which, with Refine, each head exchanges
// the channel that stays with the smallest share against the one that goes with the largest where that lowers its true
// error, then the next pairs in the order of their distance from the cut. Memory beyond the forward pass is 8·L·H·K bytes a window
// and 4·T·(2H+2G)·K bytes for one window, or for all of one layer's windows with Refine.
func FindLeanK(ctx context.Context, m *nn.Model, w calib.Windows, opt LeanKOptions) (*LeanK, error) {
	if err := opt.fill(m.Arch.Rope != nil); err != nil {
		return nil, err
	}
	if len(w.IDs) == 0 {
		return nil, fmt.Errorf("heads: no windows")
	}
	s := newChannelShares(m.Arch, w)
	if err := opt.observe(ctx, m, w.IDs, s.tap, nil); err != nil {
		return nil, err
	}
	k := &LeanK{Share: s.shares(), Keep: make([][][]bool, len(m.Arch.Layers))}
	for l, row := range k.Share {
		for _, share := range row {
			k.Keep[l] = append(k.Keep[l], largestChannels(share, opt.count(len(share)), m.Arch.Rope != nil))
		}
	}
	e := newChannelError(m.Arch, k, len(w.IDs), opt)
	err := opt.observe(ctx, m, w.IDs, e.tap, nil)
	if err == nil {
		err = e.err
	}
	if err != nil {
		return nil, err
	}
	k.Error = &Scores{Method: "leank", Unit: "relative error of the output", KV: e.lost, Samples: len(w.IDs)}
	return k, nil
}

// channelShares sums squares of queries and keys by channel.
type channelShares struct {
	m      *arch.Model
	tokens float64
	q, k   [][]float64 // [layer], [H·K] and [G·K], sums over tokens
}

func newChannelShares(m *arch.Model, w calib.Windows) *channelShares {
	return &channelShares{m: m, tokens: float64(w.Tokens()),
		q: rowsOf(m.Layers, func(l arch.Layer) int { return l.H * l.K }),
		k: rowsOf(m.Layers, func(l arch.Layer) int { return kvHeads(l) * l.K })}
}

// tap adds a window. The windows of a layer come in order.
func (s *channelShares) tap(layer, _ int, r rows) {
	add := func(sums []float64, x []float32) {
		width := len(sums)
		heads := width / r.Shape.K
		r.Dev.For(heads, func(h int) {
			for t := range r.Shape.T {
				for c := h * r.Shape.K; c < (h+1)*r.Shape.K; c++ {
					v := float64(x[t*width+c])
					sums[c] += float64(v * v)
				}
			}
		})
	}
	if r.reader() != nil {
		r.Dev.ColumnDots(s.q[layer], r.DevQ, r.DevQ, r.Shape.T, r.Shape.H*r.Shape.K)
		r.Dev.ColumnDots(s.k[layer], r.DevK, r.DevK, r.Shape.T, r.Shape.G*r.Shape.K)
		return
	}
	r.Read(nn.Queries | nn.Keys)
	add(s.q[layer], r.Q)
	add(s.k[layer], r.K)
}

func (s *channelShares) shares() [][][]float64 {
	out := make([][][]float64, len(s.m.Layers))
	for l, a := range s.m.Layers {
		out[l] = make([][]float64, kvHeads(a))
		for g := range out[l] {
			v := make([]float64, a.K)
			size := a.H / a.G
			for h := g * size; h < (g+1)*size; h++ {
				for c := range v {
					v[c] += float64((s.q[l][h*a.K+c] / s.tokens) * (s.k[l][g*a.K+c] / s.tokens))
				}
			}
			if s.m.Rope != nil {
				for c := range a.K / 2 {
					pair := v[c] + v[c+a.K/2]
					v[c], v[c+a.K/2] = pair, pair
				}
			}
			if total := sum(v); total > 0 {
				for c := range v {
					v[c] /= total
				}
			}
			out[l][g] = v
		}
	}
	return out
}

// units returns the sets of channels that stay or go together, by share (rounded) descending, then by channel.
func units(share []float64, rotary bool) [][]int {
	var out [][]int
	if rotary {
		for c := range len(share) / 2 {
			out = append(out, []int{c, c + len(share)/2})
		}
	} else {
		for c := range share {
			out = append(out, []int{c})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return Round(share[out[i][0]]) > Round(share[out[j][0]]) })
	return out
}

// largestChannels marks the n channels of the largest shares.
func largestChannels(share []float64, n int, rotary bool) []bool {
	keep := make([]bool, len(share))
	for _, u := range units(share, rotary) {
		if n -= len(u); n < 0 {
			break
		}
		for _, c := range u {
			keep[c] = true
		}
	}
	return keep
}

// Write gives each KV head its mask, none where every channel stays, and records the errors as evidence.
func (k *LeanK) Write(p *manifest.Plan, m *arch.Model, from Record) error {
	if err := shaped(m, "masks", k.Keep); err != nil {
		return err
	}
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	for l, row := range k.Keep {
		for g, keep := range row {
			w.head(l, g).KChannelMask = ""
			for _, stays := range keep {
				if !stays {
					w.head(l, g).KChannelMask = ChannelMask(keep)
				}
			}
		}
	}
	w.evidence(evidenceOf(k.Error, from.Seed, from.Digest))
	w.finish()
	return nil
}
