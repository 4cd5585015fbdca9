package importance

import (
	"context"
	"fmt"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// Removal is the cross entropy of a model, nats per token, with all its layers and without each of them.
type Removal struct {
	Base    float64
	Without []float64 // [L]
}

// Scores returns by how much the loss rises where a layer goes.
func (r *Removal) Scores() []float64 {
	out := make([]float64, len(r.Without))
	for l, v := range r.Without {
		out[l] = v - r.Base
	}
	return out
}

// RemoveLayers takes the loss over the windows without each of the layers, one at a time: what is left of a layer that is gone is the
// residual stream that goes around it (Minitron, arXiv:2407.14679, section 2.2: perplexity for depth).
//
// Models that differ in their last layers share their first ones: each block is loaded once and runs over the windows of the whole
// model and of those models that lack an earlier layer, so that L*(L+1)/2 blocks are run and not L². Memory is one block and
// what it needs to run, and 4*D*(L+1) bytes for each token of all windows, which lie on disk past the limit; the logits of 64 MiB of
// rows at most.
func RemoveLayers(ctx context.Context, m *nn.Model, w calib.Windows, opt Options) (*Removal, error) {
	if err := checkWindows(w, 2); err != nil {
		return nil, err
	}
	layers := len(m.Arch.Layers)
	k, err := opt.newWalk(ctx, m, w.IDs, layers+1)
	if err != nil {
		return nil, err
	}
	k.total = len(w.IDs) * layers * (layers + 1) / 2
	r := &Removal{Without: make([]float64, layers)}
	err = k.embed(layers)
	if err == nil {
		err = k.blocks(k.without)
	}
	if err == nil {
		err = k.losses(r)
	}
	if err = k.close(err); err != nil {
		return nil, err
	}
	return r, nil
}

// without runs a block over the windows of every model that has it. The slot of a layer holds the states of the model without it,
// which start where the layer would; the last slot those of the whole model.
func (w *walk) without(b *nn.Block) error {
	l, whole := b.Index(), len(w.m.Arch.Layers)
	run := func(x device.Buf, t int) error { return b.ForwardBuf(x, t, nil) }
	for i := range w.ids {
		if err := w.copy(l, whole, i); err != nil {
			return err
		}
		if err := w.change(whole, i, run); err != nil {
			return err
		}
		for v := range l {
			if err := w.change(v, i, run); err != nil {
				return err
			}
		}
	}
	return nil
}

// losses fills in the means over all tokens.
func (w *walk) losses(r *Removal) error {
	for v := range len(r.Without) + 1 {
		sum, tokens := 0.0, 0
		for i, ids := range w.ids {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			x, err := w.states.Buf(v*len(w.ids) + i)
			if err != nil {
				return err
			}
			loss, err := w.m.HeadBackBuf(nil, x, ids[1:], headRows(w.m))
			if err != nil {
				return fmt.Errorf("window %d: %w", i, err)
			}
			sum += loss
			tokens += len(ids) - 1
		}
		if mean := sum / float64(tokens); v < len(r.Without) {
			r.Without[v] = mean
		} else {
			r.Base = mean
		}
	}
	return nil
}
