package prune

import (
	"fmt"
	"math"

	"modelpress/internal/arch"
)

// Metric names one of the costs of [Cost].
type Metric string

// The costs that a target can be set for.
const (
	ByParams Metric = "params"
	ByFLOPs  Metric = "flops"
	ByKV     Metric = "kv"
)

// Tolerance is how far a result may be from its target, as a part of it.
const Tolerance = 0.005

// Target is what a smaller model may cost: a share of what the source does.
type Target struct {
	Metric Metric
	Share  float64 // above 0, at most 1
	Length int     // tokens of context, for FLOPs
}

// Check reports a target that has no meaning.
func (t Target) Check() error {
	switch {
	case t.Metric != ByParams && t.Metric != ByFLOPs && t.Metric != ByKV:
		return fmt.Errorf("prune: target: metric %.20q is not params, flops or kv", string(t.Metric))
	case !(t.Share > 0 && t.Share <= 1):
		return fmt.Errorf("prune: target: share %v is not above 0 and at most 1", t.Share)
	case t.Length < 0 || t.Length > MaxLength:
		return fmt.Errorf("prune: target: a context of %d tokens is not within 0 to %d", t.Length, MaxLength)
	}
	return nil
}

// Of returns the target's cost among others.
func (t Target) Of(c Cost) int64 {
	switch t.Metric {
	case ByFLOPs:
		return c.FLOPs
	case ByKV:
		return c.KVBytes
	}
	return c.Params
}

// Soft returns the target's cost among others.
func (t Target) Soft(c SoftCost) Soft {
	switch t.Metric {
	case ByFLOPs:
		return c.FLOPs
	case ByKV:
		return c.KVBytes
	}
	return c.Params
}

// Reached returns the share of m's cost that small has, and whether it is within [Tolerance] of the target.
func (t Target) Reached(m, small *arch.Model) (share float64, ok bool) {
	share = float64(t.Of(Count(small, t.Length))) / float64(t.Of(Count(m, t.Length)))
	return share, t.near(share)
}

func (t Target) near(share float64) bool { return math.Abs(share-t.Share) <= Tolerance*t.Share }

func (t Target) terms(m *arch.Model) modelTerms {
	switch t.Metric {
	case ByFLOPs:
		return flopTerms(m, t.Length)
	case ByKV:
		return kvTerms(m)
	}
	return paramTerms(m)
}

// TargetError says that no allowed sizes meet a target, and which shares next to it can be had.
type TargetError struct {
	Target Target
	Below  float64 // the largest share below the target, 0 where there is none
	Above  float64 // the smallest above it, 0 where there is none
}

func (e *TargetError) Error() string {
	text := fmt.Sprintf("prune: no allowed sizes have %.4g of %s within %.2g", e.Target.Share, e.Target.Metric, Tolerance)
	switch {
	case e.Below > 0 && e.Above > 0:
		return fmt.Sprintf("%s: the nearest shares are %.4g and %.4g", text, e.Below, e.Above)
	case e.Below+e.Above > 0:
		return fmt.Sprintf("%s: the nearest share is %.4g", text, e.Below+e.Above)
	}
	return text
}

// note takes a share that can be had into account.
func (e *TargetError) note(share float64) {
	if share <= e.Target.Share {
		e.Below = max(e.Below, share)
	} else if e.Above == 0 || share < e.Above {
		e.Above = share
	}
}
