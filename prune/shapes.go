package prune

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"

	"modelpress/internal/arch"
)

// Shape are the sizes of a model whose layers are alike.
type Shape struct {
	D, G, F, Layers int // G KV heads, with as many query heads each as before
}

// Sizes are those of a shape where they need not be whole, or one number for each of them.
type Sizes struct{ D, G, F, Layers float64 }

// Wish says which of several shapes is best: the one with the least Σ weight·|size/wanted - 1|.
type Wish struct {
	Sizes  Sizes // numbers that are 0: those of [Even]
	Weight Sizes // the zero value: all 1
	Most   int   // candidates at most; 0 for 64
}

// maxShapes bounds what is looked at.
const maxShapes = 1 << 22

// Shapes returns the shapes within [Tolerance] of a target, the most wished for first; of equals the wider, then the one with more
// KV heads, FFN channels, layers. They follow the rules, keep the query heads per KV head, and have a width that the number of query
// heads divides, as transformers wants it; where queries, keys and values are one tensor (GPT-2), D' = H'·K, whatever the multiple.
//
// The model's layers must be alike; with layers of several windows, a target for FLOPs cannot change the depth, since it depends on
// which of them stay. A target that cannot be met is a *[TargetError]. Sizes that would make more than 2²² shapes are refused.
func Shapes(m *arch.Model, t Target, r Rules, w Wish) ([]Shape, error) {
	s := shapeSearch{m: m, t: t, w: w, miss: TargetError{Target: t}}
	if err := s.begin(r); err != nil {
		return nil, err
	}
	widths := multiples(m.D, s.r.HiddenMultiple, s.r.Hidden)
	heads := s.r.headCounts(s.base.G)
	depths := multiples(len(m.Layers), 1, s.r.Depth)
	if len(widths)*len(heads)*len(depths) > maxShapes {
		return nil, fmt.Errorf("prune: shapes: %d widths, %d numbers of heads and %d depths are too many; use larger multiples", len(widths), len(heads), len(depths))
	}
	for _, g := range heads {
		for _, d := range s.widths(widths, g) {
			for _, n := range depths {
				s.try(Shape{D: d, G: g, Layers: n})
			}
		}
	}
	if len(s.found) == 0 {
		return nil, &s.miss
	}
	out := make([]Shape, len(s.found))
	for i, f := range s.found {
		out[i] = f.Shape
	}
	return out, nil
}

// shapeSearch collects the best shapes.
type shapeSearch struct {
	m     *arch.Model
	t     Target
	r     Rules
	w     Wish
	base  Shape
	ffns  []int
	cost  modelTerms
	whole float64 // cost of the source
	found []rankedShape
	miss  TargetError
}

type rankedShape struct {
	distance int64 // in 1e-9
	Shape
}

func (s *shapeSearch) begin(r Rules) error {
	var err error
	if err = s.t.Check(); err != nil {
		return err
	}
	if s.r, err = r.fill(s.m, s.t.Metric); err != nil {
		return err
	}
	if s.base, err = shapeOf(s.m, s.r.Depth && s.t.Metric == ByFLOPs); err != nil {
		return err
	}
	s.cost = s.t.terms(s.m)
	s.whole = s.at(s.base)
	s.ffns = multiples(s.base.F, s.r.FFNMultiple, s.r.FFN)
	even, err := Even(s.m, s.t, r)
	s.w.fill(even)
	return err
}

// fill puts the defaults in.
func (w *Wish) fill(even Sizes) {
	for _, v := range []struct{ to, from *float64 }{{&w.Sizes.D, &even.D}, {&w.Sizes.G, &even.G}, {&w.Sizes.F, &even.F}, {&w.Sizes.Layers, &even.Layers}} {
		if !(*v.to > 0) {
			*v.to = *v.from
		}
	}
	if w.Weight == (Sizes{}) {
		w.Weight = Sizes{1, 1, 1, 1}
	}
	if w.Most <= 0 {
		w.Most = 64
	}
}

// shapeOf returns the shape of a model whose layers are alike.
func shapeOf(m *arch.Model, windows bool) (Shape, error) {
	first := &m.Layers[0]
	for l := range m.Layers {
		a := &m.Layers[l]
		if a.Size() != first.Size() || a.K != first.K {
			return Shape{}, fmt.Errorf("prune: shapes: layers 0 and %d have other sizes; only a layout of single layers can have that", l)
		}
		if windows && a.Window != first.Window {
			return Shape{}, fmt.Errorf("prune: shapes: layers 0 and %d have other windows, so that FLOPs depend on which layers go", l)
		}
	}
	if !first.HasAttention() || !first.HasFFN() {
		return Shape{}, fmt.Errorf("prune: shapes: layers without attention or FFN")
	}
	return Shape{m.D, first.G, first.F, len(m.Layers)}, nil
}

// at returns the cost of a shape.
func (s *shapeSearch) at(x Shape) float64 {
	d, g, f := float64(x.D), float64(x.G), float64(x.F)
	sum := s.cost.top * d
	if x.Layers == len(s.cost.layers) {
		for _, c := range s.cost.layers { // of several windows
			sum += c.value(d, g, f)
		}
		return sum
	}
	return sum + float64(x.Layers)*s.cost.layers[0].value(d, g, f)
}

// widths returns those that go with g KV heads.
func (s *shapeSearch) widths(all []int, g int) []int {
	a := &s.m.Layers[0]
	h := g * (a.H / a.G)
	if fused(s.m) {
		return []int{h * a.K}
	}
	var out []int
	for _, d := range all {
		if d%h == 0 || d == s.base.D && g == s.base.G {
			out = append(out, d)
		}
	}
	return out
}

// try takes the FFN widths that meet the target with the other sizes of x. The cost grows with the width.
func (s *shapeSearch) try(x Shape) {
	with := func(i int) Shape { x.F = s.ffns[i]; return x }
	i := sort.Search(len(s.ffns), func(i int) bool { return s.share(with(i)) >= s.t.Share*(1-Tolerance) })
	if i > 0 {
		s.add(with(i - 1)) // too small, or just so
	}
	for ; i < len(s.ffns); i++ {
		if !s.add(with(i)) && s.share(with(i)) > s.t.Share {
			return
		}
	}
}

func (s *shapeSearch) share(x Shape) float64 { return s.at(x) / s.whole }

// add keeps a shape that meets the target, if it is among the best, and reports whether it meets it.
func (s *shapeSearch) add(x Shape) bool {
	share := s.share(x)
	if !s.t.near(share) {
		s.miss.note(share)
		return false
	}
	r := rankedShape{s.distance(x), x}
	i, _ := slices.BinarySearchFunc(s.found, r, better)
	if i < s.w.Most {
		s.found = slices.Insert(s.found, i, r)
		s.found = s.found[:min(len(s.found), s.w.Most)]
	}
	return true
}

func better(a, b rankedShape) int {
	return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(b.D, a.D), cmp.Compare(b.G, a.G), cmp.Compare(b.F, a.F), cmp.Compare(b.Layers, a.Layers))
}

// distance of a shape from the one wished for, in units of 1e-9.
func (s *shapeSearch) distance(x Shape) int64 {
	part := func(v int, want, weight float64) float64 { return float64(weight * math.Abs(float64(v)/want-1)) }
	w, v := s.w.Weight, s.w.Sizes
	sum := part(x.D, v.D, w.D) + part(x.G, v.G, w.G) + part(x.F, v.F, w.F) + part(x.Layers, v.Layers, w.Layers)
	return int64(math.Round(min(sum, 1e9) * 1e9))
}
