package prune

import "modelpress/internal/arch"

// Even returns the sizes that meet a target if all widths that may change, and that it depends on, are cut by one factor; the depth where
// no width may. They are not rounded. Where even sizes of 0 cost too much, that is what comes out. The layers must be alike.
func Even(m *arch.Model, t Target, r Rules) (Sizes, error) {
	if _, err := shapeOf(m, false); err != nil {
		return Sizes{}, err
	}
	e, err := EvenLayers(m, t, r)
	if err != nil {
		return Sizes{}, err
	}
	first := e.Layers[0]
	return Sizes{e.Hidden, first.Heads, first.FFN, first.Layer * float64(len(m.Layers))}, nil
}

// EvenLayers is Even where layers may differ: the numbers of each one. Where no width may change, all layers count as the same part of
// one.
func EvenLayers(m *arch.Model, t Target, r Rules) (Expected, error) {
	if err := t.Check(); err != nil {
		return Expected{}, err
	}
	r, err := r.fill(m, t.Metric)
	if err != nil {
		return Expected{}, err
	}
	terms := t.terms(m)
	cut := func(x float64) Expected {
		e := All(m)
		scale := func(v *float64, change bool) {
			if change {
				*v *= x
			}
		}
		scale(&e.Hidden, r.Hidden)
		for l := range e.Layers {
			scale(&e.Layers[l].Heads, r.Heads)
			scale(&e.Layers[l].FFN, r.FFN)
			scale(&e.Layers[l].Layer, !r.Hidden && !r.Heads && !r.FFN)
		}
		return e
	}
	low, high, want := 0.0, 1.0, t.Share*terms.soft(cut(1)).Value
	for range 50 {
		if mid := (low + high) / 2; terms.soft(cut(mid)).Value < want {
			low = mid
		} else {
			high = mid
		}
	}
	return cut(high), nil
}
