package quantize

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// finder chooses the grid of a group. Scales are rounded to the stored type before they are judged, so that what is
// chosen is what readers will see.
type finder struct {
	symmetric  bool
	clip       bool
	qmin, qmax int
	round      func(float32) float32
	least      float32
	most       float32 // the largest value of the stored type
}

func newFinder(s Scheme, store formats.DType) *finder {
	lo, hi := s.limits()
	return &finder{symmetric: s.Symmetric, clip: s.Clip, qmin: lo, qmax: hi, round: rounder(store),
		least: smallestNormal(store == formats.F16), most: largest(store)}
}

// candidate is the best grid so far.
type candidate struct {
	grid
	cost float32
}

// find returns the grid of the values w with weights h (nil for all ones).
func (f *finder) find(w, h []float32) (grid, error) {
	lo, hi := extremes(w)
	if lo == 0 && hi == 0 {
		return newGrid(1, 0, f.qmin, f.qmax), nil
	}
	best := candidate{cost: float32(math.Inf(1))}
	if f.symmetric {
		f.symmetrics(&best, w, h, max(-lo, hi))
	} else {
		f.asymmetrics(&best, w, h, lo, hi)
	}
	if math.IsInf(float64(best.Scale), 0) || best.Scale == 0 {
		return grid{}, fmt.Errorf("values up to %g need a scale that the stored type does not hold", max(-lo, hi))
	}
	return f.within(best.grid), nil
}

// within returns the grid with its scale made smaller where its outermost value would be infinite in the stored type.
func (f *finder) within(g grid) grid {
	limit := f.most / max(-g.Lo, g.Hi)
	if g.Scale <= limit {
		return g
	}
	scale := f.round(limit)
	for share := float32(0.99); scale > limit; share -= 0.01 {
		scale = f.round(limit * share)
	}
	return newGrid(scale, g.zero, f.qmin, f.qmax)
}

// try keeps the grid of a scale and zero point if it costs less than the best so far. The first one tried is kept whatever
// it costs.
func (f *finder) try(best *candidate, w, h []float32, scale float32, zero int) {
	scale = max(f.round(scale), f.least)
	g := newGrid(scale, zero, f.qmin, f.qmax)
	if c := g.cost(w, h); c < best.cost || best.Scale == 0 {
		*best = candidate{g, c}
	}
}

// symmetrics tries the scales at which the largest magnitude a is code qmax, and at which it is half a step further out
// (compressed-tensors' own rule, whose gain is a finer step); a negative extreme may be code qmin. With clip it goes on to
// finer steps.
func (f *finder) symmetrics(best *candidate, w, h []float32, a float32) {
	q := float32(f.qmax)
	f.try(best, w, h, a/q, 0)
	f.try(best, w, h, a/(q+0.5), 0)
	f.try(best, w, h, a/(q+1), 0)
	if f.clip {
		f.shrink(best, w, h, func(p float32) (float32, int) { return a / q * p, 0 })
	}
}

// asymmetrics tries the scale that spans the range, and with clip finer ones that cut both ends in proportion.
func (f *finder) asymmetrics(best *candidate, w, h []float32, lo, hi float32) {
	at := func(p float32) (float32, int) {
		// Halves are subtracted so that a range wider than float32 does not overflow.
		scale := max(f.round((hi/2-lo/2)/float32(f.qmax-f.qmin)*2*p), f.least)
		zero := math.RoundToEven(float64(f.qmin) - float64(lo)*float64(p)/float64(scale))
		return scale, int(min(max(zero, float64(f.qmin)), float64(f.qmax)))
	}
	scale, zero := at(1)
	f.try(best, w, h, scale, zero)
	if f.clip {
		f.shrink(best, w, h, at)
	}
}

// The search goes through shares p of the full range in coarse steps, then around the best in fine ones. The quantizer of
// the GPTQ authors tries 80 shares from 1 down to 0.21; the two stages reach as far with a third of the work.
const (
	coarse     = 0.04
	coarseLast = 20 // down to 0.2
	fine       = 0.01
)

func (f *finder) shrink(best *candidate, w, h []float32, at func(p float32) (scale float32, zero int)) {
	top := float32(1)
	visit := func(p float32) {
		before := best.grid
		scale, zero := at(p)
		if f.try(best, w, h, scale, zero); best.grid != before {
			top = p
		}
	}
	for i := 1; i <= coarseLast; i++ {
		visit(1 - float32(coarse*float32(i)))
	}
	centre := top
	for i := -3; i <= 3; i++ {
		if p := centre + float32(fine*float32(i)); i != 0 && p <= 1 {
			visit(p)
		}
	}
	// With the codes fixed the best scale has a closed form; a new scale may move codes, so once more.
	for range 2 {
		scale, zero := best.refit(w, h), best.zero
		if scale > 0 {
			f.try(best, w, h, scale, zero)
		}
	}
}
