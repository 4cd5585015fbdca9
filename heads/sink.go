package heads

import (
	"context"
	"fmt"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// SinkOptions says which positions count as attention sinks. Zero values stand for those in brackets.
type SinkOptions struct {
	Threshold float64 // importance from which a position is a sink of a head [0.3]
	Lead      int     // leading positions that sink tokens of a cache may cover [64]
	Queries   int     // a position counts in windows where at least this many queries see it [32]
	MinRate   float64 // share of heads and windows from which a sink matters [0.01]
	MinMass   float64 // mean importance beyond that of even attention from which a position matters [0.05]
	Options
}

func (o *SinkOptions) fill() error {
	set(&o.Threshold, 0.3)
	set(&o.Lead, 64)
	set(&o.Queries, 32)
	set(&o.MinRate, 0.01)
	set(&o.MinMass, 0.05)
	if !(o.Threshold > 0 && o.Threshold <= 1) || o.Lead < 1 || o.Queries < 1 || !(o.MinRate > 0) || !(o.MinMass > 0) {
		return fmt.Errorf("heads: sinks of importance %g in %d leading positions seen by %d queries, rate %g, mass %g",
			o.Threshold, o.Lead, o.Queries, o.MinRate, o.MinMass)
	}
	return nil
}

// set gives v its default where it was left out.
func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Sinks tells at which positions of a text heads put attention that they have no other use for (Gu et al., "When Attention
// Sink Emerges in Language Models", arXiv:2410.10781). The importance of position k to a head in a window of T tokens is the
// mean attention of the queries that see it, Σ_{i≥k} A[i,k]/(T−k). Position 0 is one of them and not the only one
// looked at.
type Sinks struct {
	Rate []float64 // [position], share of (window, layer, query head) to which the position is a sink
	Mass []float64 // [position], mean importance over the same
	Even []float64 // [position], what Mass would be if every query attended evenly to the keys that it sees
	// Positions lists, ascending, those that matter: Rate ≥ MinRate or Mass − Even ≥ MinMass. Those from Lead on cannot be
	// covered by sink tokens of a cache.
	Positions []int
	// Count is the number of sink tokens that a streaming head needs: the fewest that cover every position below Lead that
	// matters; 0 where there is none.
	Count int
	// Heads is the share of windows in which a head has a sink below Lead.
	Heads *Scores
}

// FindSinks measures attention sinks over windows. Peak memory beyond the forward pass is 8·H·T bytes for column sums and
// 24 bytes for each position, window and layer.
func FindSinks(ctx context.Context, m *nn.Model, w calib.Windows, opt SinkOptions) (*Sinks, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if longest := w.Longest(); longest < opt.Queries {
		return nil, fmt.Errorf("heads: windows of at most %d tokens have no position that %d queries see", longest, opt.Queries)
	}
	p := newSinkPass(m.Arch.Layers, w.IDs, opt)
	err := opt.observe(ctx, m, w.IDs, p.tap, nil)
	if err != nil {
		return nil, err
	}
	return p.sinks(), nil
}

// sinkPass keeps sums over the heads of a layer: windows and layers are added up in their own order afterwards.
type sinkPass struct {
	opt    SinkOptions
	layers []arch.Layer
	counts []int         // [window], positions that count
	hits   [][][]int     // [window][layer][position], heads to which it is a sink
	mass   [][][]float64 // the same, sum of importance over heads
	even   [][][]float64 // the same, sum of importance under even attention
	heads  *table
}

func newSinkPass(layers []arch.Layer, windows [][]int32, opt SinkOptions) *sinkPass {
	p := &sinkPass{opt: opt, layers: layers, heads: newTable(layers, len(windows))}
	for _, ids := range windows {
		p.counts = append(p.counts, max(0, len(ids)-opt.Queries+1))
		p.hits = append(p.hits, make([][]int, len(layers)))
		p.mass = append(p.mass, make([][]float64, len(layers)))
		p.even = append(p.even, make([][]float64, len(layers)))
	}
	return p
}

func (p *sinkPass) tap(layer, window int, r rows) {
	n, t := p.counts[window], r.Shape.T
	sums := r.columnSums()
	hits, mass, even := make([]int, n), make([]float64, n), r.even()[:n]
	for k := range even {
		even[k] *= float64(r.Shape.H)
	}
	for h := range r.Shape.H {
		for k := range n {
			importance := sums[h*t+k] / float64(t-k)
			mass[k] += importance
			if importance > p.opt.Threshold {
				hits[k]++
				if k < p.opt.Lead {
					p.heads.v[window][layer][h] = 1
				}
			}
		}
	}
	p.hits[window][layer], p.mass[window][layer], p.even[window][layer] = hits, mass, even
}

func (p *sinkPass) sinks() *Sinks {
	s := &Sinks{}
	seen := []int{} // heads that could see a position
	windows := 0
	for w, n := range p.counts {
		if n > 0 {
			windows++
		}
		for len(s.Rate) < n {
			s.Rate, s.Mass, s.Even, seen = append(s.Rate, 0), append(s.Mass, 0), append(s.Even, 0), append(seen, 0)
		}
		for l := range p.layers {
			for k := range p.hits[w][l] {
				s.Rate[k] += float64(p.hits[w][l][k])
				s.Mass[k] += p.mass[w][l][k]
				s.Even[k] += p.even[w][l][k]
				seen[k] += p.layers[l].H
			}
		}
	}
	for k := range s.Rate {
		if seen[k] > 0 {
			s.Rate[k] /= float64(seen[k])
			s.Mass[k] /= float64(seen[k])
			s.Even[k] /= float64(seen[k])
		}
		if Round(s.Rate[k]) >= p.opt.MinRate || Round(s.Mass[k]-s.Even[k]) >= p.opt.MinMass {
			s.Positions = append(s.Positions, k)
			if k < p.opt.Lead {
				s.Count = k + 1
			}
		}
	}
	keep := make([]bool, len(p.counts))
	for w, n := range p.counts {
		keep[w] = n > 0
	}
	mean, _ := p.heads.mean(keep)
	s.Heads = p.heads.scores("attention-sink", "share of windows", mean, windows)
	return s
}

// Write records the measure as evidence. The number of sink tokens goes into the policies of the planner that uses it.
func (s *Sinks) Write(p *manifest.Plan, m *arch.Model, from Record) error {
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	e := evidenceOf(s.Heads, from.Seed, from.Digest)
	e.Per, e.Scores = "q_head", roundRows(s.Heads.Query)
	w.evidence(e)
	w.finish()
	return nil
}
