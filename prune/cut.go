package prune

import (
	"slices"

	"modelpress/internal/arch"
)

// Cut says what stays of a model and by what its outputs are scaled. Masks that were learnt leave such scales, and this is their
// meaning, which the model with masks and the smaller model share:
//
//   - the embedded token, its position included, and what sub-layers add to the residual stream, biases included, are multiplied
//     channel by channel by the scale of Hidden, 0 for channels that go;
//   - what a layer's sub-layers add is multiplied by the layer's scale besides;
//   - the output of attention, before the output projection, is multiplied by the scale of its KV head, 0 for heads that go;
//   - the activations of the FFN, before the down projection, are multiplied by the scale of FFN, 0 for those that go;
//   - norms over the stream run over the channels that stay: the mean square (and mean) is divided by their number.
//
// The output head reads the normalized stream as it is.
type Cut struct {
	Hidden Units      // channels of the residual stream, of D
	Layers []CutLayer // one for each layer of the source
}

// CutLayer is what stays of one layer.
type CutLayer struct {
	Drop  bool    // the layer is left out, and the model has one less; all else is zero then
	Scale float32 // of what both sub-layers add to the stream; 0 means 1
	Heads Units   // KV heads, of G, each with the query heads that read it: h of h/(H/G)
	FFN   Units   // channels of the FFN, of F
}

// Units says which of a number of units stay.
type Units struct {
	Keep  []int     // ascending; nil for all. Empty and not nil: the sub-layer is left out (not for Hidden)
	Scale []float32 // one for each that stays; nil for ones
}

// count is how many of n units stay.
func (u *Units) count(n int) int {
	if u.Keep == nil {
		return n
	}
	return len(u.Keep)
}

// Of returns the values of the units that stay, from one for each: the scales of what is kept from those of everything.
func (u *Units) Of(all []float32) []float32 {
	if u.Keep == nil {
		return slices.Clone(all)
	}
	out := make([]float32, len(u.Keep))
	for i, k := range u.Keep {
		out[i] = all[k]
	}
	return out
}

// all reports whether every one of n units stays.
func (u *Units) all(n int) bool { return u.count(n) == n }

// scales returns the scales, nil where all are 1.
func (u *Units) scales() []float32 {
	for _, s := range u.Scale {
		if s != 1 {
			return u.Scale
		}
	}
	return nil
}

// scale returns the factor of what the layer adds to the stream.
func (l *CutLayer) scale() float32 {
	if l.Scale == 0 {
		return 1
	}
	return l.Scale
}

// Kept lists the layers of the source that stay, ascending.
func (c *Cut) Kept() []int {
	var out []int
	for l := range c.Layers {
		if !c.Layers[l].Drop {
			out = append(out, l)
		}
	}
	return out
}

// Identity reports whether the cut leaves a model as it is. The cut must fit the model.
func (c *Cut) Identity(m *arch.Model) bool {
	plain := func(u *Units, n int) bool { return u.all(n) && u.scales() == nil }
	same := plain(&c.Hidden, m.D)
	for l := range c.Layers {
		cl, a := &c.Layers[l], &m.Layers[l]
		same = same && !cl.Drop && cl.scale() == 1 && plain(&cl.Heads, a.G) && plain(&cl.FFN, a.F)
	}
	return same
}

// Arch returns the description of the smaller model. Errors are those of [Cut.Check].
func (c *Cut) Arch(m *arch.Model) (*arch.Model, error) {
	if err := c.Check(m); err != nil {
		return nil, err
	}
	kept := c.Kept()
	sizes := make([]arch.LayerSize, len(kept))
	for i, l := range kept {
		a := &m.Layers[l]
		sizes[i].F = c.Layers[l].FFN.count(a.F)
		if a.HasAttention() {
			sizes[i].G = c.Layers[l].Heads.count(a.G)
			sizes[i].H = sizes[i].G * (a.H / a.G)
		}
	}
	return m.Select(kept).Resize(c.Hidden.count(m.D), sizes), nil
}
