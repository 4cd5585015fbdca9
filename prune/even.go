package prune

import "modelpress/internal/arch"

// Even returns the sizes that meet a target if all widths that may change, and that it depends on, are cut by one factor; the depth where
// no width may. They are not rounded. Where even sizes of 0 cost too much, that is what comes out. The layers must be alike.
func Even(m *arch.Model, t Target, r Rules) (Sizes, error) {
	if err := t.Check(); err != nil {
		return Sizes{}, err
	}
	r, err := r.fill(m, t.Metric)
	if err != nil {
		return Sizes{}, err
	}
	base, err := shapeOf(m, false)
	if err != nil {
		return Sizes{}, err
	}
	terms := t.terms(m)
	cut := func(x float64) Sizes {
		s := Sizes{float64(base.D), float64(base.G), float64(base.F), float64(base.Layers)}
		scale := func(v *float64, change bool) {
			if change {
				*v *= x
			}
		}
		scale(&s.D, r.Hidden)
		scale(&s.G, r.Heads)
		scale(&s.F, r.FFN)
		scale(&s.Layers, !r.Hidden && !r.Heads && !r.FFN)
		return s
	}
	cost := func(s Sizes) float64 {
		e := Expected{Hidden: s.D, Layers: make([]ExpectedLayer, base.Layers)}
		for l := range e.Layers {
			e.Layers[l] = ExpectedLayer{s.Layers / float64(base.Layers), s.G, s.F}
		}
		return terms.soft(e).Value
	}
	low, high, want := 0.0, 1.0, t.Share*cost(cut(1))
	for range 50 {
		if mid := (low + high) / 2; cost(cut(mid)) < want {
			low = mid
		} else {
			high = mid
		}
	}
	return cut(high), nil
}
