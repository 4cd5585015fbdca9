package prune

import (
	"fmt"
	"math"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// Check reports what is wrong with the cut of a model as a *formats.Error: another number of layers, units that the model does not
// have, twice or out of order, scales of another number or not finite, a model without layers or channels, a dropped layer of
// which more is said. A model whose queries, keys and values are one tensor (GPT-2) has as many channels as its heads have, and
// the same number of heads in all layers that attend.
func (c *Cut) Check(m *arch.Model) error {
	if err := c.check(m); err != nil {
		return formats.Errorf("", "", "prune: %w", err)
	}
	return nil
}

func (c *Cut) check(m *arch.Model) error {
	if len(c.Layers) != len(m.Layers) {
		return fmt.Errorf("a cut of %d layers for a model of %d", len(c.Layers), len(m.Layers))
	}
	if err := c.Hidden.check(m.D); err != nil {
		return fmt.Errorf("channels: %w", err)
	}
	if c.Hidden.count(m.D) == 0 {
		return fmt.Errorf("channels: none stays")
	}
	for l := range c.Layers {
		if err := c.Layers[l].check(&m.Layers[l]); err != nil {
			return fmt.Errorf("layer %d: %w", l, err)
		}
	}
	if len(c.Kept()) == 0 {
		return fmt.Errorf("no layer stays")
	}
	if err := c.checkTied(m); err != nil {
		return err
	}
	return c.checkFused(m)
}

func (l *CutLayer) check(a *arch.Layer) error {
	if l.Drop {
		said := func(u *Units) bool { return u.Keep != nil || u.Scale != nil }
		if l.Scale != 0 || said(&l.Heads) || said(&l.FFN) {
			return fmt.Errorf("it is dropped, and has units or a scale all the same")
		}
		return nil
	}
	if !finite32(l.Scale) {
		return fmt.Errorf("scale %v is not finite", l.Scale)
	}
	if err := l.Heads.check(a.G); err != nil {
		return fmt.Errorf("KV heads: %w", err)
	}
	if err := l.FFN.check(a.F); err != nil {
		return fmt.Errorf("FFN: %w", err)
	}
	return nil
}

// check reports units that are not ascending numbers below n, and scales that are not one for each or not finite.
func (u *Units) check(n int) error {
	last := -1
	for _, i := range u.Keep {
		if i < 0 || i >= n {
			return fmt.Errorf("unit %d of %d", i, n)
		}
		if i <= last {
			return fmt.Errorf("unit %d stands after %d", i, last)
		}
		last = i
	}
	if u.Scale != nil && len(u.Scale) != u.count(n) {
		return fmt.Errorf("%d scales for %d units", len(u.Scale), u.count(n))
	}
	for i, s := range u.Scale {
		if !finite32(s) {
			return fmt.Errorf("scale %d is %v", i, s)
		}
	}
	return nil
}

// checkTied refuses a scale of 0 where the head is the embedding: the norm before it, whose gain is divided by the scale, could not
// undo that.
func (c *Cut) checkTied(m *arch.Model) error {
	if !m.Tied {
		return nil
	}
	for i, s := range c.Hidden.Scale {
		if s == 0 {
			return fmt.Errorf("channels: scale %d is 0, which the head, tied to the embedding, cannot undo", i)
		}
	}
	return nil
}

// checkFused has a model whose q, k and v are one tensor keep D' = H'·K in every layer that attends, and one such layer.
func (c *Cut) checkFused(m *arch.Model) error {
	fused, attends := false, false
	d := c.Hidden.count(m.D)
	for l := range c.Layers {
		a, cl := &m.Layers[l], &c.Layers[l]
		if !fusedHeads(a) {
			continue
		}
		fused = true
		heads := cl.Heads.count(a.G)
		if cl.Drop || heads == 0 {
			continue
		}
		attends = true
		if heads*a.K != d {
			return fmt.Errorf("layer %d: %d heads of %d do not make up %d channels, and %s has no other way", l, heads, a.K, d, m.Family)
		}
	}
	if fused && !attends {
		return fmt.Errorf("no layer attends, and %s needs heads that make up its channels", m.Family)
	}
	return nil
}

// fusedHeads reports whether queries, keys and values of a layer are one tensor.
func fusedHeads(a *arch.Layer) bool {
	k := &a.Linears[arch.K]
	return k.Present() && k.StoredOut != k.Out
}

func finite32(v float32) bool { return !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) }
