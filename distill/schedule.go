package distill

import (
	"fmt"
	"math"
)

// Decay is how a rate falls after its warmup.
type Decay uint8

// The ways of falling.
const (
	Constant Decay = iota
	Linear
	Cosine // Loshchilov and Hutter, arXiv:1608.03983, without restarts
)

// String returns the name in lower case.
func (d Decay) String() string { return [...]string{"constant", "linear", "cosine"}[d] }

// ParseDecay returns the way of falling of that name.
func ParseDecay(name string) (Decay, error) {
	for d := Constant; d <= Cosine; d++ {
		if d.String() == name {
			return d, nil
		}
	}
	return 0, fmt.Errorf("distill: schedule: %q is none of constant, linear and cosine", name)
}

// Schedule is the rate of each step of a run of Steps: it rises linearly over the first Warmup steps, the last of which has the
// full rate LR, and then falls to the share Floor of it, which step Steps would have. Constant ones do not fall.
type Schedule struct {
	Steps, Warmup int
	LR            float64
	Decay         Decay
	Floor         float64 // share of LR, within [0, 1]
}

// Check returns an error where the numbers make no schedule.
func (s Schedule) Check() error {
	switch {
	case s.Steps < 1:
		return fmt.Errorf("distill: schedule: %d steps", s.Steps)
	case s.Warmup < 0 || s.Warmup > s.Steps:
		return fmt.Errorf("distill: schedule: warmup of %d of %d steps", s.Warmup, s.Steps)
	case !(s.LR > 0) || math.IsInf(s.LR, 0):
		return fmt.Errorf("distill: schedule: rate %g", s.LR)
	case !(s.Floor >= 0 && s.Floor <= 1):
		return fmt.Errorf("distill: schedule: floor %g is no share of the rate", s.Floor)
	case s.Decay > Cosine:
		return fmt.Errorf("distill: schedule: unknown way of falling %d", s.Decay)
	}
	return nil
}

// Rate returns the rate of a step, which is counted from 0:
//
//	LR * (step+1)/Warmup                                for step < Warmup
//	LR * (Floor + (1-Floor)*f(u))                       after that, u = (step-Warmup)/(Steps-Warmup)
//
// with f(u) = 1-u, or (1+cos(πu))/2.
func (s Schedule) Rate(step int) float64 {
	if step < s.Warmup {
		return s.LR * float64(step+1) / float64(s.Warmup)
	}
	u := math.Min(1, float64(step-s.Warmup)/float64(max(1, s.Steps-s.Warmup)))
	f := 1.0
	switch s.Decay {
	case Linear:
		f = 1 - u
	case Cosine:
		f = (1 + math.Cos(math.Pi*u)) / 2
	}
	return s.LR * (s.Floor + float64((1-s.Floor)*f))
}
