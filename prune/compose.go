package prune

import (
	"fmt"
	"slices"
)

// Compose returns the cut of a model that leaves what b leaves of what a leaves: units are those of the source, scales are multiplied
// and rounded to float32. b must fit the model that a makes; layers, units or scales of another number and products that are not
// finite are errors. A cut that leaves everything changes nothing on either side.
func Compose(a, b *Cut) (*Cut, error) {
	if n := len(a.Kept()); len(b.Layers) != n {
		return nil, fmt.Errorf("prune: compose: a cut of %d layers after one that leaves %d", len(b.Layers), n)
	}
	out := &Cut{Layers: make([]CutLayer, len(a.Layers))}
	var err error
	if out.Hidden, err = a.Hidden.then(&b.Hidden); err != nil {
		return nil, fmt.Errorf("prune: compose: channels: %w", err)
	}
	next := 0
	for l := range a.Layers {
		first := &a.Layers[l]
		if first.Drop {
			out.Layers[l].Drop = true
			continue
		}
		if out.Layers[l], err = first.then(&b.Layers[next]); err != nil {
			return nil, fmt.Errorf("prune: compose: layer %d: %w", l, err)
		}
		next++
	}
	return out, nil
}

func (l *CutLayer) then(b *CutLayer) (CutLayer, error) {
	if b.Drop {
		return CutLayer{Drop: true}, nil
	}
	var out CutLayer
	if l.Scale != 0 || b.Scale != 0 {
		out.Scale = l.scale() * b.scale()
		if !finite32(out.Scale) || out.Scale == 0 {
			return out, fmt.Errorf("scales %v and %v have no product", l.Scale, b.Scale)
		}
	}
	var err error
	if out.Heads, err = l.Heads.then(&b.Heads); err != nil {
		return out, fmt.Errorf("KV heads: %w", err)
	}
	if out.FFN, err = l.FFN.then(&b.FFN); err != nil {
		return out, fmt.Errorf("FFN: %w", err)
	}
	return out, nil
}

// then returns the units of u that b leaves, with the scales of both.
func (u *Units) then(b *Units) (Units, error) {
	n := -1 // how many u leaves, where that is known
	if u.Keep != nil {
		n = len(u.Keep)
	} else if u.Scale != nil {
		n = len(u.Scale)
	}
	of := func(i int) int { return i } // the unit of u's that is the i-th of the result
	var out Units
	switch {
	case b.Keep != nil:
		of = func(i int) int { return b.Keep[i] }
		out.Keep = make([]int, len(b.Keep))
		for i, k := range b.Keep {
			if k < 0 || n >= 0 && k >= n {
				return out, fmt.Errorf("unit %d of %d", k, n)
			}
			if out.Keep[i] = k; u.Keep != nil {
				out.Keep[i] = u.Keep[k]
			}
		}
		n = len(b.Keep)
	case u.Keep != nil:
		out.Keep = append([]int{}, u.Keep...)
	}
	if b.Scale != nil && n >= 0 && len(b.Scale) != n {
		return out, fmt.Errorf("%d scales for %d units", len(b.Scale), n)
	}
	if u.Scale == nil {
		out.Scale = slices.Clone(b.Scale)
		return out, nil
	}
	out.Scale = make([]float32, n)
	for i := range out.Scale {
		if out.Scale[i] = u.Scale[of(i)]; b.Scale != nil {
			out.Scale[i] *= b.Scale[i]
		}
		if !finite32(out.Scale[i]) {
			return out, fmt.Errorf("scale %d is %v", i, out.Scale[i])
		}
	}
	return out, nil
}
