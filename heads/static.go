package heads

import (
	"context"
	"errors"
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// StaticOptions says how patterns of positions alone are chosen.
type StaticOptions struct {
	Density float64 // share of the causal query-key pairs that a pattern may compute on the longest window
	Block   int     // 0 for 64
	Sink    int     // leading tokens that power patterns always see
	Strides []int   // vert_stride of local_stride; nil for 2, 4, 8, 16
	// Prefill and Decode say which phases the patterns are written for.
	Prefill, Decode bool
	SampleBlocks    int // blocks of queries that losses are measured on, spread over a window; 0 for all
	Options
}

func (o *StaticOptions) fill() error {
	if o.Block == 0 {
		o.Block = 64
	}
	if o.Strides == nil {
		o.Strides = []int{2, 4, 8, 16}
	}
	if !(o.Density > 0 && o.Density <= 1) || o.Block < 1 || o.Sink < 0 || !o.Prefill && !o.Decode {
		return fmt.Errorf("heads: static patterns of density %v, blocks of %d and %d sinks for prefill %t, decode %t", o.Density, o.Block, o.Sink, o.Prefill, o.Decode)
	}
	for _, v := range o.Strides {
		if v < 1 {
			return fmt.Errorf("heads: static patterns of stride %d", v)
		}
	}
	return nil
}

// Static chooses for each KV head among patterns that depend on positions alone, at equal work: local_stride with each
// vert_stride, whose first column differs from head to head so that the heads of a layer see all columns together
// (S2-Attention, arXiv:2407.17678), and the power-of-two distances of PowerAttention (arXiv:2503.03588). Each gets as many
// local blocks as the density allows on the longest window; one that exceeds it with a single local block is no candidate.
// The head gets the pattern under which the outputs of its query heads together are closest to dense attention; ties go
// to the smaller stride, power last. Policies are written into p for the phases asked for, with evidence "static" per KV
// head. Layers with a sliding window are left alone.
//
// It costs one forward pass and, per head and candidate, the sampled share of its density in rows. Memory beyond the pass:
// 4*T bytes per thread, and 32 bytes per query head, candidate and window.
func Static(ctx context.Context, m *nn.Model, w calib.Windows, p *manifest.Plan, opt StaticOptions) (*Patterns, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if len(w.IDs) == 0 {
		return nil, fmt.Errorf("heads: no windows")
	}
	windows := longestFirst(w.IDs)
	s := newPatternSearch(m, windows)
	for l, a := range m.Arch.Layers {
		for h := 0; h < a.H && a.Window == 0; h++ {
			if s.candidates[l][h] = opt.candidates(s.longest, h/(a.H/a.G)); len(s.candidates[l][h]) == 0 {
				return nil, fmt.Errorf("heads: no static pattern of blocks of %d has a density of %v on %d tokens", opt.Block, opt.Density, s.longest)
			}
		}
	}
	var failed error
	tap := func(layer, window int, r rows) {
		if r.window > 0 || failed != nil {
			return
		}
		sample := sampleRows(r.Shape.T, opt.Block, opt.SampleBlocks, 0)
		if d := r.reader(); d != nil {
			patterns := make([][]nn.Pattern, r.Shape.H)
			for h := range patterns {
				for _, c := range s.candidates[layer][h] {
					patterns[h] = append(patterns[h], nn.NewStridePattern(c.policy))
				}
			}
			failed = s.lossesThere(d, layer, window, r, sample, patterns)
			return
		}
		r.Read(nn.AllHeads | nn.Outputs | nn.LSE)
		r.Dev.For(r.Shape.H, func(h int) {
			for _, c := range s.candidates[layer][h] {
				s.losses[window][layer][h] = append(s.losses[window][layer][h], r.patternLoss(h, sample, nn.NewStridePattern(c.policy)))
			}
		})
	}
	if err := errors.Join(opt.observe(ctx, m, windows, tap, nil), failed); err != nil {
		return nil, err
	}
	out := s.chooseKV("static")
	if err := opt.write(out, p, m.Arch.Layers); err != nil {
		return nil, err
	}
	p.Evidence = append(p.Evidence, evidenceOf(out.Error, 0, w.Digest))
	return out, nil
}

// candidates returns the patterns of KV head g within the density on t tokens.
func (o *StaticOptions) candidates(t, g int) (list []candidate) {
	target := int64(math.Floor(o.Density * float64(maskPairs(t, 0, t))))
	blocks := (t + o.Block - 1) / o.Block
	policies := make([]func(local int) manifest.Policy, 0, len(o.Strides)+1)
	for _, stride := range o.Strides {
		policies = append(policies, func(local int) manifest.Policy {
			return manifest.Policy{Kind: manifest.KindLocalStride, Block: o.Block, LocalBlocks: local, VertStride: stride, Offset: g % stride}
		})
	}
	policies = append(policies, func(local int) manifest.Policy {
		return manifest.Policy{Kind: manifest.KindPower, Sink: o.Sink, Block: o.Block, LocalBlocks: local}
	})
	for _, policy := range policies {
		pairs := func(local int) int64 { return patternPairs(nn.NewStridePattern(policy(local)), t, o.Block) }
		local := atMost(blocks, target, pairs)
		if n := pairs(local); n <= target {
			list = append(list, candidate{policy(local), n})
		}
	}
	return list
}

// patternPairs returns the pairs that t queries see under a pattern of whole blocks.
func patternPairs(p nn.Pattern, t, block int) int64 {
	var sum int64
	for q0 := 0; q0 < t; q0 += block {
		sum += blockPairs(p, q0, min(q0+block, t))
	}
	return sum
}

// blockPairs returns the pairs that a block of queries [q0, q1) sees: each one key more than the query before.
func blockPairs(p nn.Pattern, q0, q1 int) int64 {
	q := int64(q1 - q0)
	return q*int64(nn.Covered(p.Spans(nil, q0))) + q*(q-1)/2
}

// chooseKV gives the query heads of a KV head their candidate of the least error of all outputs together.
func (s *patternSearch) chooseKV(method string) *Patterns {
	layers := s.m.Arch.Layers
	out := newPatterns(method, layers, len(s.losses))
	out.Error.KV = rowsOf(layers, kvHeads)
	for l, a := range layers {
		for g := range kvHeads(a) {
			group := a.H / a.G
			best := -1
			for c := range s.candidates[l][g*group] {
				var sum patternLoss
				for h := g * group; h < (g+1)*group; h++ {
					sum.add(s.total(l, h, c))
				}
				if v := sum.relative(); best < 0 || Round(v) < Round(out.Error.KV[l][g]) {
					best, out.Error.KV[l][g] = c, v
				}
			}
			for h := g * group; h < (g+1)*group && best >= 0; h++ {
				s.enter(out, l, h, s.candidates[l][h][best], s.total(l, h, best))
			}
		}
	}
	return out
}

// write enters the policies for the phases that are asked for.
func (o *StaticOptions) write(s *Patterns, p *manifest.Plan, layers []arch.Layer) error {
	if o.Prefill {
		if err := s.write(p, layers); err != nil {
			return err
		}
	}
	for l, a := range layers {
		for g := 0; o.Decode && g < kvHeads(a); g++ {
			e := entryOf(p, l, g)
			if e == nil {
				return fmt.Errorf("heads: the plan has no entry for head %d.%d", l, g)
			}
			if pol := s.Policy[l][g*(a.H/a.G)]; pol.Kind != "" {
				e.Decode = manifest.Always(addPolicy(p, pol))
			}
		}
	}
	p.Requires = p.Needs()
	return nil
}
