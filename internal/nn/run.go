package nn

import (
	"context"
	"fmt"

	"modelpress/internal/device"
)

// RunOptions refine [Model.Run]; the zero value runs the plain model with states in memory.
type RunOptions struct {
	// Masks returns the masks of a layer, one per KV head, nil for the layer's own. It may be nil.
	Masks func(layer int) []device.Mask
	// Pass returns what to do while a layer runs over a window; nil for nothing. Its masks, where set, stand before
	// those of Masks. It must not stop the pass. It may be nil.
	Pass func(layer, window int) *Pass
	// EmbedGate returns what multiplies the embedded tokens of a window, [D], nil for ones. It may be nil.
	EmbedGate func(window int) []float32
	// Output sees the output x [T, D] of each layer for each window, valid during the call and not to be changed; layer -1 are the
	// embedded tokens. It may be nil; an error ends the call.
	Output func(layer, window int, x []float32) error
	// States keeps the hidden states between blocks; nil keeps them in memory. It must hold the windows' lengths.
	States *States
	// Progress is called after each window of each layer, with the passes done and the number of them. It may be nil.
	Progress func(done, total int)
}

// Run computes the output of the last block for every window, loading each block once. each gets the windows in order,
// with their hidden states [T, D] before the final norm, valid during the call; it may be nil. Run returns early with
// ctx's error when ctx ends.
func (m *Model) Run(ctx context.Context, windows [][]int32, opt RunOptions, each func(window int, hidden []float32) error) error {
	d := m.Arch.D
	longest := 0
	lengths, err := lengthsOf(windows)
	if err != nil {
		return err
	}
	for _, t := range lengths {
		longest = max(longest, t)
	}
	n, err := product(longest, d)
	if err != nil {
		return err
	}
	states := opt.States
	if states == nil {
		if states, err = NewStates("", lengths, d, 0); err != nil {
			return err
		}
		defer states.Close()
	}
	r := &run{Model: m, opt: opt, windows: windows, states: states, x: make([]float32, n), total: len(windows) * len(m.Arch.Layers)}
	if err := r.forward(ctx); err != nil {
		return err
	}
	return r.finish(ctx, each)
}

// forward carries every window from its tokens through all blocks.
func (r *run) forward(ctx context.Context) error {
	if err := r.embed(ctx); err != nil {
		return err
	}
	for l := range r.Arch.Layers {
		if err := r.layer(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// lengthsOf returns the lengths of windows, none of which may be empty.
func lengthsOf(windows [][]int32) ([]int, error) {
	lengths := make([]int, len(windows))
	for i, w := range windows {
		if len(w) == 0 {
			return nil, fmt.Errorf("nn: window %d is empty", i)
		}
		lengths[i] = len(w)
	}
	return lengths, nil
}

// run is one call of Run, or of Back.
type run struct {
	*Model
	opt     RunOptions
	windows [][]int32
	states  *States
	x       []float32 // [longest window, D]
	done    int
	total   int // passes
	stride  int // how far apart in states a window's boundaries lie; 0 where each replaces the one before
}

// slot is where the input of layer l over a window is kept.
func (r *run) slot(l, window int) int { return l*r.stride + window }

func (r *run) step() {
	if r.done++; r.opt.Progress != nil {
		r.opt.Progress(r.done, r.total)
	}
}

func (r *run) embed(ctx context.Context) error {
	for i, ids := range r.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		x := r.x[:len(ids)*r.Arch.D]
		if err := r.Embed(x, ids); err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
		if r.opt.EmbedGate != nil {
			gate(x, r.opt.EmbedGate(i))
		}
		if err := r.keep(-1, i, x); err != nil {
			return err
		}
	}
	return nil
}

// keep shows the output of a layer over a window and keeps it.
func (r *run) keep(l, window int, x []float32) error {
	if r.opt.Output != nil {
		if err := r.opt.Output(l, window, x); err != nil {
			return err
		}
	}
	return r.states.Put(r.slot(l+1, window), x)
}

// gate multiplies the rows of x by z; nil counts as ones.
func gate(x, z []float32) {
	for i := 0; z != nil && i < len(x); i += len(z) {
		row := x[i : i+len(z)]
		for j, v := range z {
			row[j] *= v
		}
	}
}

// layer carries every window through one block.
func (r *run) layer(ctx context.Context, l int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := r.LoadBlock(l)
	if err != nil {
		return err
	}
	defer b.Free()
	r.Prefetch(l + 1)
	var masks []device.Mask
	if r.opt.Masks != nil {
		masks = r.opt.Masks(l)
	}
	for i, ids := range r.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		x := r.x[:len(ids)*r.Arch.D]
		if err := r.states.Get(r.slot(l, i), x); err != nil {
			return err
		}
		if err := b.Forward(x, len(ids), r.pass(l, i, masks)); err != nil {
			return err
		}
		if err := r.keep(l, i, x); err != nil {
			return err
		}
		r.step()
	}
	return nil
}

// pass returns what to do in one layer and window.
func (r *run) pass(l, window int, masks []device.Mask) *Pass {
	p := Pass{}
	if r.opt.Pass != nil {
		if given := r.opt.Pass(l, window); given != nil {
			p = *given
		}
	}
	if p.HasStop {
		panic("nn: a pass of Run must not stop")
	}
	if p.Masks == nil {
		p.Masks = masks
	}
	return &p
}

func (r *run) finish(ctx context.Context, each func(window int, hidden []float32) error) error {
	if each == nil {
		return nil
	}
	for i, ids := range r.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		x := r.x[:len(ids)*r.Arch.D]
		if err := r.states.Get(i, x); err != nil {
			return err
		}
		if err := each(i, x); err != nil {
			return err
		}
	}
	return nil
}
