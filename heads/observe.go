package heads

import (
	"context"
	"errors"

	"modelpress/internal/nn"
)

// Options says how the model is run for a measure. The zero value keeps all hidden states in memory.
type Options struct {
	Dir      string                // where hidden states go once they pass MemLimit; "" for the system's temporary directory
	MemLimit int64                 // bytes of hidden states kept in memory; 0 for no limit
	Progress func(done, total int) // may be nil
}

// observe runs the dense model over the windows, block by block, and shows tap every layer's attention of every window.
// each may be nil; else it gets the final hidden states of each window.
func (o Options) observe(ctx context.Context, m *nn.Model, windows [][]int32, tap func(layer, window int, r rows),
	each func(window int, hidden []float32) error) error {
	if each == nil {
		each = func(int, []float32) error { return nil }
	}
	lengths := make([]int, len(windows))
	for i, w := range windows {
		lengths[i] = len(w)
	}
	states, err := nn.NewStates(o.Dir, lengths, m.Arch.D, o.MemLimit)
	if err != nil {
		return err
	}
	opt := nn.RunOptions{
		States:   states,
		Progress: o.Progress,
		Pass: func(layer, window int) *nn.Pass {
			return &nn.Pass{TapAttn: func(a *nn.AttnState) {
				tap(layer, window, rows{AttnState: a, window: m.Arch.Layers[layer].Window, input: func(x []float32) error {
					return states.Get(window, x) // Run replaces it only after the pass
				}})
			}}
		},
	}
	return errors.Join(m.Run(ctx, windows, opt, each), states.Close())
}

// run runs the dense model over the windows, block by block, and hands over their final hidden states.
func (o Options) run(ctx context.Context, m *nn.Model, windows [][]int32, each func(window int, hidden []float32) error) error {
	lengths := make([]int, len(windows))
	for i, w := range windows {
		lengths[i] = len(w)
	}
	states, err := nn.NewStates(o.Dir, lengths, m.Arch.D, o.MemLimit)
	if err != nil {
		return err
	}
	return errors.Join(m.Run(ctx, windows, nn.RunOptions{States: states, Progress: o.Progress}, each), states.Close())
}
