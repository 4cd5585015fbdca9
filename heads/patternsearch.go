package heads

import (
	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// candidate is a policy and the query-key pairs that it computes on the longest window.
type candidate struct {
	policy manifest.Policy
	pairs  int64
}

// patternSearch collects the losses of candidates per window, layer and query head. Sums are formed in the order of
// windows, whatever thread measured them.
type patternSearch struct {
	m          *nn.Model
	longest    int
	candidates [][][]candidate     // [layer][query head]
	losses     [][][][]patternLoss // [window][layer][query head][candidate]
}

func newPatternSearch(m *nn.Model, windows [][]int32) *patternSearch {
	s := &patternSearch{m: m, longest: len(windows[0])}
	for _, a := range m.Arch.Layers {
		s.candidates = append(s.candidates, make([][]candidate, a.H))
	}
	for range windows {
		byLayer := make([][][]patternLoss, len(m.Arch.Layers))
		for l, a := range m.Arch.Layers {
			byLayer[l] = make([][]patternLoss, a.H)
		}
		s.losses = append(s.losses, byLayer)
	}
	return s
}

// lossesThere appends the losses of each head's patterns, where the device reads attention: one pattern of all heads after the other.
func (s *patternSearch) lossesThere(d device.AttnReader, layer, window int, r rows, sample []int, patterns [][]nn.Pattern) error {
	most := 0
	for _, list := range patterns {
		most = max(most, len(list))
	}
	for c := range most {
		list := make([]nn.Pattern, len(patterns))
		for h := range list {
			if c < len(patterns[h]) {
				list[h] = patterns[h][c]
			}
		}
		losses, err := r.patternLosses(d, sample, list)
		if err != nil {
			return err
		}
		for h, l := range losses {
			if list[h] != nil {
				s.losses[window][layer][h] = append(s.losses[window][layer][h], l)
			}
		}
	}
	return nil
}

// total returns the loss of a candidate over all windows.
func (s *patternSearch) total(l, h, c int) (sum patternLoss) {
	for w := range s.losses {
		sum.add(s.losses[w][l][h][c])
	}
	return sum
}

// choose gives every query head its candidate of the least output error, the first of equals.
func (s *patternSearch) choose(method string) *Patterns {
	layers := s.m.Arch.Layers
	out := newPatterns(method, layers, len(s.losses))
	for l, a := range layers {
		for h := range a.H {
			best := -1
			var least patternLoss
			for c := range s.candidates[l][h] {
				if sum := s.total(l, h, c); best < 0 || Round(sum.relative()) < Round(least.relative()) {
					best, least = c, sum
				}
			}
			if best >= 0 {
				s.enter(out, l, h, s.candidates[l][h][best], least)
			}
		}
	}
	out.Error.KV = groupMax(layers, out.Error.Query)
	return out
}

func (s *patternSearch) enter(out *Patterns, l, h int, c candidate, loss patternLoss) {
	out.Policy[l][h] = c.policy
	out.Error.Query[l][h], out.Mass[l][h] = loss.relative(), loss.retained()
	out.Work[l][h] = float64(c.pairs) / float64(maskPairs(s.longest, 0, s.longest))
}
