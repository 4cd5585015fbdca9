package vib

import (
	"errors"
	"fmt"
	"math"

	"modelpress/internal/arch"
	"modelpress/prune"
)

// Options say how masks search.
type Options struct {
	Seed   uint64
	Target prune.Target
	Rules  prune.Rules // which units have masks
	// Counts, where not nil, are what has to stay of every kind and layer: the search then keeps each of them on its own, and [Masks.Settle]
	// is to be called with them. Else it is free in what the target leaves it.
	Counts *prune.Counts
	Search int // steps that the search is planned for
	Tune   int // steps after it

	// Rise is the share of the search over which the target rises linearly, from what is expected to be saved at the start.
	Rise float64
	// Beta is how sharp the part of a unit is that is expected to stay, sigmoid(-Beta·log α), in the constraint; WidthBeta in the
	// number of channels that norms are taken over.
	Beta, WidthBeta float64
	LogD            float64 // initial log D
	Penalty         float64 // initial λ2 of the constraint
	Rates           Rates
	Prior           Prior
	Clip            float64 // largest norm of the gradient by mu and log D; 0 for any
}

// Rates are learning rates. Those of the search and of the tuning fall linearly.
type Rates struct {
	Mu, LogD     float64 // of the first step of the search
	Dual1, Dual2 float64 // of the multipliers of the constraint, all through the search
	Tune         float64 // of mu in the first step after it
}

// Prior weighs the divergence from the log-uniform prior, in the objective.
type Prior struct {
	All float64 // multiplies the others
	// Of each unit of a kind; 0 for 1.
	Hidden, Heads, FFN, Layer float64
}

func (o *Options) check(m *arch.Model) error {
	finite := func(v ...float64) bool {
		for _, x := range v {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return false
			}
		}
		return true
	}
	p, r := o.Prior, o.Rates
	switch {
	case o.Search < 1 || o.Tune < 0:
		return fmt.Errorf("vib: %d steps of search and %d after it", o.Search, o.Tune)
	case !(o.Rise > 0 && o.Rise <= 1):
		return fmt.Errorf("vib: the target rises over %g of the search", o.Rise)
	case !(o.Beta > 0 && o.WidthBeta > 0) || !finite(o.Beta, o.WidthBeta):
		return fmt.Errorf("vib: sharpness %g and %g", o.Beta, o.WidthBeta)
	case !(r.Mu > 0 && r.LogD > 0 && r.Dual1 >= 0 && r.Dual2 >= 0 && r.Tune > 0) || !finite(r.Mu, r.LogD, r.Dual1, r.Dual2, r.Tune):
		return fmt.Errorf("vib: rates %+v", r)
	case !(p.All >= 0 && p.Hidden >= 0 && p.Heads >= 0 && p.FFN >= 0 && p.Layer >= 0) || !finite(p.All, p.Hidden, p.Heads, p.FFN, p.Layer):
		return errors.New("vib: the weight of the prior is negative or not finite")
	case !finite(o.LogD, o.Penalty) || o.Penalty < 0 || !(o.Clip >= 0) || math.IsInf(o.Clip, 0):
		return fmt.Errorf("vib: initial log D %g, penalty %g, norm up to %g", o.LogD, o.Penalty, o.Clip)
	case !o.Rules.Hidden && !o.Rules.Heads && !o.Rules.FFN && !o.Rules.Depth:
		return errors.New("vib: no units may go")
	}
	var miss *prune.TargetError
	if _, err := prune.FitLayers(m, o.Target, o.Rules, prune.All(m), nil); err != nil && !errors.As(err, &miss) {
		return err
	}
	return nil
}

// target is the share of the cost that is to be saved at a step of the search, which started with some.
func (o *Options) target(step int, start float64) float64 {
	return o.rise(step, start, 1-o.Target.Share)
}

// rise is what is to be saved at a step of the search that started with some and ends with all.
func (o *Options) rise(step int, start, end float64) float64 {
	return start + (end-start)*min(1, float64(step+1)/(o.Rise*float64(o.Search)))
}

// Default returns options for a search of a few hundred steps. The papers search for thousands, with log D from -9, sigmoid(-10·log α)
// and multipliers that start at 0; within so few, units that start that certain and a constraint that sharp move too late, then all at
// once. On the example model at half of its parameters, log D from -3 and a sharpness of 1 left a divergence from the whole model of
// 0.26 nats after 100 steps and 60 of tuning, -5 one of 0.27 and -9 one of 0.40, and the constraint's own penalty one of 0.24; a rate of
// log D of 0.2 and one of the tuning of 0.05 took a little more off. Rates of mu, the prior's weights and clipping are the papers'.
func Default(t prune.Target, r prune.Rules) Options {
	return Options{Seed: 1, Target: t, Rules: r, Search: 120, Tune: 60, Rise: 0.9, Beta: 1, WidthBeta: 10, LogD: -3,
		Penalty: 20,
		Rates:   Rates{Mu: 0.05, LogD: 0.2, Dual1: 2, Tune: 0.05}, Prior: Prior{All: 1e-6, Hidden: 30, Heads: 256, Layer: 256}, Clip: 1}
}
