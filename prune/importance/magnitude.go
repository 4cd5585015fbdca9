package importance

import (
	"context"
	"math"

	"modelpress/internal/nn"
	"modelpress/prune"
)

// Magnitude scores units by the norm of the weights that come and go with them, sqrt(Σ w²) over the coupled weights as [Taylor] has
// them, biases and gains included; it needs no data. A tied output head counts once.
//
// Every weight is read once. Memory is one block on the device, and on the host 4 bytes for each weight of its largest projection,
// 4*D bytes for 1024 rows of the embedding, and sums of 8 bytes for 66 of its rows and 2 more a thread. progress counts layers; it may
// be nil.
func Magnitude(ctx context.Context, m *nn.Model, progress func(done, total int)) (*prune.Scores, error) {
	c := newCoupled(m)
	for l := range m.Arch.Layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := c.squares(l); err != nil {
			return nil, err
		}
		if progress != nil {
			progress(l+1, len(m.Arch.Layers))
		}
	}
	if err := c.squaresOutside(); err != nil {
		return nil, err
	}
	c.each(math.Sqrt)
	if err := finite(c.Scores); err != nil {
		return nil, err
	}
	return c.Scores, nil
}

// squared counts weights by their squares.
func squared(w []float32, _ *moments) counts {
	return func(dst []float64, at int) {
		for i := range dst {
			v := float64(w[at+i])
			dst[i] = float64(v * v)
		}
	}
}

// squares counts a layer.
func (c *coupled) squares(l int) error {
	b, err := c.m.LoadBlock(l)
	if err != nil {
		return err
	}
	defer b.Free()
	c.m.Prefetch(l + 1)
	return countAll(c.params(l, nil), b, squared)
}

// squaresOutside counts what belongs to no layer.
func (c *coupled) squaresOutside() error {
	a := c.m.Arch
	all := func(w []float32, _ int) counts { return squared(w, nil) }
	err := countAll(c.normParams(-1, a.FinalNorm, a.D, true, nn.ParamGrad{}), nil, squared)
	if err == nil {
		err = c.table(a.Embed, nil, a.V, all)
	}
	if err == nil && a.PosEmbed != "" {
		err = c.table(a.PosEmbed, nil, a.MaxPosition, all)
	}
	if err == nil && !a.Tied {
		err = c.table(a.LMHead, nil, a.V, all)
	}
	return err
}
