package prune

import (
	"fmt"

	"modelpress/internal/arch"
)

// Expected are the numbers of units that stay, of which some or all may be expected rather than known.
type Expected struct {
	Hidden float64 // of D
	Layers []ExpectedLayer
}

// ExpectedLayer are those of one layer.
type ExpectedLayer struct {
	Layer float64 // 1 where the layer stays, 0 where it goes
	Heads float64 // KV heads, of G
	FFN   float64 // of F
}

// All are the units of a model without a cut.
func All(m *arch.Model) Expected {
	e := Expected{Hidden: float64(m.D), Layers: make([]ExpectedLayer, len(m.Layers))}
	for l := range e.Layers {
		e.Layers[l] = ExpectedLayer{1, float64(m.Layers[l].G), float64(m.Layers[l].F)}
	}
	return e
}

// Soft is a cost and its derivatives by each expected number.
type Soft struct {
	Value float64
	Grad  Expected
}

// SoftCost is [Cost] for numbers that are expected.
type SoftCost struct{ Params, FLOPs, KVBytes Soft }

// Expect returns what a model costs once it has the expected numbers of units. Where they are whole, it is [Count] of the smaller
// model, to the last parameter and operation as long as those are below 2⁵³. In between, it is linear in each number, but for what
// a sub-layer has whatever its size (norms, the bias of its output), which counts min(1, x) times for x heads or FFN channels.
// Negative numbers have no meaning. It panics where e has another number of layers.
func Expect(m *arch.Model, length int, e Expected) SoftCost {
	return SoftCost{paramTerms(m).soft(e), flopTerms(m, length).soft(e), kvTerms(m).soft(e)}
}

// soft evaluates the coefficients.
func (t modelTerms) soft(e Expected) Soft {
	if len(e.Layers) != len(t.layers) {
		panic(fmt.Sprintf("prune: %d layers expected of %d", len(e.Layers), len(t.layers)))
	}
	s := Soft{Value: float64(t.top * e.Hidden), Grad: Expected{Hidden: t.top, Layers: make([]ExpectedLayer, len(t.layers))}}
	for l, c := range t.layers {
		x := e.Layers[l]
		v := c.value(e.Hidden, x.Heads, x.FFN)
		s.Value += float64(x.Layer * v)
		s.Grad.Hidden += float64(x.Layer * c.byHidden(x.Heads, x.FFN))
		s.Grad.Layers[l] = ExpectedLayer{
			Layer: v,
			Heads: x.Layer * (float64(c.gd*e.Hidden) + c.g1 + float64(less(x.Heads)*(float64(c.ad*e.Hidden)+c.a1))),
			FFN:   x.Layer * (float64(c.fd*e.Hidden) + c.f1 + float64(less(x.FFN)*float64(c.bd*e.Hidden))),
		}
	}
	return s
}

// value is the cost of a layer that stays.
func (c terms) value(d, g, f float64) float64 {
	return float64(d*c.byHidden(g, f)) + float64(c.g1*g) + float64(c.a1*min(1, g)) + float64(c.f1*f)
}

// byHidden is its derivative by the channels of the stream.
func (c terms) byHidden(g, f float64) float64 {
	return float64(c.gd*g) + float64(c.ad*min(1, g)) + float64(c.fd*f) + float64(c.bd*min(1, f))
}

// less is the derivative of min(1, x).
func less(x float64) float64 { return one(x < 1) }
