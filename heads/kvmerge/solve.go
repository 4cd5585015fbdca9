package kvmerge

import (
	"errors"
	"fmt"

	"modelpress/formats"
	"modelpress/internal/num"
)

// Ways says how keys and values are merged.
type Ways struct {
	Key   Method
	Value Method
}

// Lost is what merging costs a layer, by the second moments.
type Lost struct {
	// Key is the share of the energy of scores that keys lose, Value that of the outputs of values.
	Key, Value float64
	// Output estimates what the sub-layer's output loses, E‖·‖² up to the concentration of attention, and Had what it has: what
	// values lose, and of the output of each head the share that its scores lose.
	Output, Had float64
}

// lossOf is the Lost of a group, in absolute terms.
type lossOf struct{ key, keyHad, value, valueHad, output float64 }

func (a *lossOf) add(b lossOf) {
	a.key += b.key
	a.keyHad += b.keyHad
	a.value += b.value
	a.valueHad += b.valueHad
	a.output += b.output
}

func (a lossOf) lost() Lost {
	return Lost{Key: ratio(a.key, a.keyHad), Value: ratio(a.value, a.valueHad), Output: a.output, Had: a.valueHad}
}

func ratio(a, b float64) float64 {
	if b > 0 {
		return a / b
	}
	return 0
}

// Solve makes the maps of groups. It fails on groups that are none of the layer's heads, where nothing was added, and, with a
// *formats.Error, where moments are not finite.
func (s *Stats) Solve(groups Groups, w Ways, par num.Par) (*Maps, Lost, error) {
	if err := groups.Check(s.Shape.G); err != nil {
		return nil, Lost{}, err
	}
	m := &Maps{Shape: s.Shape, Groups: groups, Key: newSide(s.Shape), Value: newSide(s.Shape)}
	losses, errs := make([]lossOf, len(groups)), make([]error, len(groups))
	inParallel(s.crew(par, len(groups[0])), len(groups), func(i int) {
		losses[i], errs[i] = s.merge(groups[i], w, m)
	})
	var sum lossOf
	for i, l := range losses {
		if errs[i] != nil {
			return nil, Lost{}, errs[i]
		}
		sum.add(l)
	}
	return m, sum.lost(), nil
}

// Cost is what it costs, in the units of Lost.Output, that members share. It is finite, or fails with the errors of Solve.
func (s *Stats) Cost(members []int, w Ways) (float64, error) {
	l, err := s.merge(members, w, nil)
	return l.output, err
}

// merge merges one group and writes its maps to m, unless that is nil.
func (s *Stats) merge(members []int, w Ways, m *Maps) (lossOf, error) {
	v := s.value(members)
	keep := 0
	if w.Value == Select {
		keep = best(v)
	}
	e, err := v.merge(w.Value, keep)
	if err != nil {
		return lossOf{}, unmerged("values", members, err)
	}
	lost, had := v.lost(e)
	if m != nil {
		s.placeDense(&m.Value, members, e, 0)
	}
	scores, scoresHad, err := s.mergeKeys(members, w.Key, m)
	if err != nil {
		return lossOf{}, unmerged("keys", members, err)
	}
	var out lossOf
	for g := range members {
		out.add(lossOf{key: scores[g], keyHad: scoresHad[g], value: lost[g], valueHad: had[g],
			output: lost[g] + had[g]*min(1, ratio(scores[g], scoresHad[g]))})
	}
	if !finite([]float64{out.key, out.keyHad, out.value, out.valueHad, out.output}) {
		return lossOf{}, unmerged("keys or values", members, num.ErrNotFinite)
	}
	return out, nil
}

// unmerged says whose moments gave an error. It is one of the input where they are not finite: weights are too large.
func unmerged(what string, members []int, err error) error {
	if errors.Is(err, num.ErrNotFinite) {
		return formats.Errorf("", "", "kvmerge: %s of heads %v: weights are so large that moments are not finite", what, members)
	}
	return fmt.Errorf("kvmerge: %s of heads %v: %w", what, members, err)
}

// mergeKeys merges keys and returns E[δ²] of the scores of each member, summed over its query heads, and E of the scores' squares.
func (s *Stats) mergeKeys(members []int, method Method, m *Maps) (lost, had []float64, err error) {
	lost, had = make([]float64, len(members)), make([]float64, len(members))
	keep := 0
	if method == Select {
		keep = s.bestKey(members)
	}
	// Of the products of a pair only the real part counts: half of the energy, over phases.
	err = s.eachKey(members, func(j int, p *pairs) error {
		e, err := p.merge(method, keep)
		if err != nil {
			return err
		}
		a, b := p.lost(e)
		addScaled(lost, a, 0.5/float64(s.Shape.K))
		addScaled(had, b, 0.5/float64(s.Shape.K))
		if m != nil {
			s.placePair(&m.Key, members, e, j)
		}
		return nil
	}, func(d *dense) error {
		e, err := d.merge(method, keep)
		if err != nil {
			return err
		}
		a, b := d.lost(e)
		addScaled(lost, a, 1/float64(s.Shape.K))
		addScaled(had, b, 1/float64(s.Shape.K))
		if m != nil {
			s.placeDense(&m.Key, members, e, s.Shape.Rotary)
		}
		return nil
	})
	return lost, had, err
}

// eachKey calls onPair for every frequency and onRest for the other dimensions, if there are any.
func (s *Stats) eachKey(members []int, onPair func(j int, p *pairs) error, onRest func(d *dense) error) error {
	for j := range s.Shape.Frequencies() {
		if err := onPair(j, s.pair(members, j)); err != nil {
			return err
		}
	}
	if d := s.rest(members); d != nil {
		return onRest(d)
	}
	return nil
}

// placeDense writes maps of the dimensions from from on.
func (s *Stats) placeDense(side *Side, members []int, e encoded, from int) {
	k := s.Shape.K
	r := k - from
	for x, g := range members {
		for i := range r {
			copy(side.Encode[g][(from+i)*k+from:][:r], e.enc[x][i*r:][:r])
			copy(side.Decode[g][(from+i)*k+from:][:r], e.dec[x][i*r:][:r])
		}
	}
}

// placePair writes maps of one frequency: a complex factor a+bi is the matrix [a, -b; b, a].
func (s *Stats) placePair(side *Side, members []int, e pairMaps, j int) {
	re, im := s.Shape.Pair(j)
	k := s.Shape.K
	put := func(dst []float64, f complex128) {
		dst[re*k+re], dst[re*k+im] = real(f), -imag(f)
		dst[im*k+re], dst[im*k+im] = imag(f), real(f)
	}
	for x, g := range members {
		put(side.Encode[g], e.enc[x])
		put(side.Decode[g], e.dec[x])
	}
}

func addScaled(dst, src []float64, f float64) {
	for i, v := range src {
		dst[i] += f * v
	}
}

func total(list []float64) float64 {
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum
}

// Share is the share of the sub-layer's output that is lost.
func (l Lost) Share() float64 { return ratio(l.Output, l.Had) }
