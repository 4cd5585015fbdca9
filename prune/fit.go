package prune

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"modelpress/internal/arch"
)

// maxWidths bounds the widths of the stream that FitLayers tries.
const maxWidths = 64

// FitLayers returns counts for each layer of its own that are close to the wanted ones and meet a target within [Tolerance]. A
// layer stays where half or more of it is wanted, and at least one does. Wanted numbers are rounded to the nearest that the rules
// allow, to 0 where less than half of a head or of a multiple is wanted and Depth lets sub-layers go; a layer without sub-layers is
// dropped. The width of the stream is one that the most common number of query heads divides, where there is such a one.
//
// Then FFN widths are changed, a multiple at a time, until the target is met: the channels with the lowest mean score go first, and
// those with the highest come back first, of equals in the first layer; then KV heads in the same way. Where that does not lead to
// the target, the next width of the stream is tried, up to 64 of them. Where queries, keys and values are one tensor (GPT-2), all layers
// have the same number of heads, D'/K.
//
// The scores may be nil, or nil of some units, which are all as good then. A target that is not met is a *[TargetError].
func FitLayers(m *arch.Model, t Target, r Rules, want Expected, s *Scores) (*Counts, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	filled, err := r.fill(m, t.Metric)
	if err != nil {
		return nil, err
	}
	if s != nil {
		if err := s.Check(m); err != nil {
			return nil, err
		}
	}
	f := &fit{m: m, t: t, r: filled, s: s, cost: t.terms(m), miss: TargetError{Target: t}}
	if f.whole = f.cost.soft(All(m)).Value; f.whole == 0 {
		return nil, fmt.Errorf("prune: fit: the model has nothing that %s counts", t.Metric)
	}
	if err := checkWanted(m, &want); err != nil {
		return nil, err
	}
	start := f.start(want)
	for _, d := range f.widths(want.Hidden, start) {
		c := &Counts{Hidden: d, Layers: slices.Clone(start.Layers)}
		if fused(m) {
			f.setHeads(c)
		}
		if f.repair(c) {
			return c, nil
		}
	}
	return nil, &f.miss
}

func checkWanted(m *arch.Model, want *Expected) error {
	if len(want.Layers) != len(m.Layers) {
		return fmt.Errorf("prune: fit: %d layers wanted of %d", len(want.Layers), len(m.Layers))
	}
	bad := math.IsNaN(want.Hidden)
	for _, l := range want.Layers {
		bad = bad || math.IsNaN(l.Layer) || math.IsNaN(l.Heads) || math.IsNaN(l.FFN)
	}
	if bad {
		return fmt.Errorf("prune: fit: a wanted number is none")
	}
	return nil
}

// fit is one search.
type fit struct {
	m     *arch.Model
	t     Target
	r     Rules // with defaults
	s     *Scores
	cost  modelTerms
	whole float64 // of the source
	sums  []layerSums
	miss  TargetError
}

// start returns the wanted counts of each layer, rounded.
func (f *fit) start(want Expected) *Counts {
	c := &Counts{Layers: make([]LayerCounts, len(f.m.Layers))}
	most := 0
	for l := range want.Layers {
		if want.Layers[l].Layer > want.Layers[most].Layer {
			most = l
		}
	}
	for l, w := range want.Layers {
		a, n := &f.m.Layers[l], &c.Layers[l]
		if f.r.Depth && w.Layer < 0.5 && l != most {
			n.Drop = true
			continue
		}
		if a.HasAttention() {
			n.Heads = f.snap(f.r.headCounts(a.G), w.Heads, f.r.Heads)
		}
		if a.HasFFN() {
			n.FFN = f.snap(multiples(a.F, f.r.FFNMultiple, f.r.FFN), w.FFN, f.r.FFN)
		}
		if n.Heads+n.FFN == 0 && a.HasAttention() && l == most {
			n.Heads = f.r.headCounts(a.G)[0]
		}
		n.Drop = n.Heads+n.FFN == 0 && f.r.Depth && l != most
	}
	return c
}

// snap rounds a wanted number to an allowed one, or to none.
func (f *fit) snap(list []int, v float64, change bool) int {
	if f.r.Depth && change && v < float64(list[0])/2 {
		return 0
	}
	return nearest(list, v)
}

// widths lists the allowed widths of the stream, the nearest to the wanted one first.
func (f *fit) widths(want float64, c *Counts) []int {
	list := multiples(f.m.D, f.r.HiddenMultiple, f.r.Hidden)
	if fused(f.m) {
		list = list[:0]
		a := &f.m.Layers[slices.IndexFunc(f.m.Layers, func(a arch.Layer) bool { return a.HasAttention() })]
		for _, g := range f.r.headCounts(a.G) {
			list = append(list, g*a.K)
		}
	} else if h := f.commonHeads(c); h > 0 {
		divided := slices.DeleteFunc(slices.Clone(list), func(d int) bool { return d%h != 0 })
		if len(divided) > 0 {
			list = divided
		}
	}
	far := func(d int) float64 { return math.Abs(float64(d) - want) }
	slices.SortStableFunc(list, func(a, b int) int { return cmp.Or(cmp.Compare(far(a), far(b)), cmp.Compare(b, a)) })
	return list[:min(len(list), maxWidths)]
}

// commonHeads returns the number of query heads that most layers have, of equals the largest; 0 where none attends.
func (f *fit) commonHeads(c *Counts) int {
	times := map[int]int{}
	for l, n := range c.Layers {
		if n.Heads > 0 {
			a := &f.m.Layers[l]
			times[n.Heads*(a.H/a.G)]++
		}
	}
	best := 0
	for h, n := range times {
		if n > times[best] || n == times[best] && h > best {
			best = h
		}
	}
	return best
}

// setHeads gives every layer that attends the heads that make up the width, and the first layer that can where none does.
func (f *fit) setHeads(c *Counts) {
	if !slices.ContainsFunc(c.Layers, func(n LayerCounts) bool { return n.Heads > 0 }) {
		for l := range c.Layers {
			if f.m.Layers[l].HasAttention() && !c.Layers[l].Drop {
				c.Layers[l].Heads = 1
				break
			}
		}
	}
	for l := range c.Layers {
		if a := &f.m.Layers[l]; c.Layers[l].Heads > 0 {
			c.Layers[l].Heads = c.Hidden / a.K
		}
	}
}
