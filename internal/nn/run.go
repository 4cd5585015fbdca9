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
	// Together is a number of positions up to which windows of one length that follow one another go through a layer at once, where
	// there is no Pass; 0 for one at a time. No bit depends on it. Memory is that of a window of so many positions.
	Together int
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
	lengths, err := lengthsOf(windows)
	if err != nil {
		return err
	}
	if opt.Pass != nil {
		opt.Together = 0
	}
	groups := together(lengths, opt.Together)
	n, err := product(longest(groups), d)
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
	r := &run{Model: m, opt: opt, windows: windows, groups: groups, states: states, x: make([]float32, n), total: len(windows) * len(m.Arch.Layers)}
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
	groups  []group // in which the windows go through a layer
	states  *States
	acts    *activationStore // of each layer and group; nil for none
	x       []float32        // [longest group, D]
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
	for i := range r.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.group(b, i, masks); err != nil {
			return err
		}
	}
	return nil
}

// group carries the windows of a group through one block.
func (r *run) group(b *Block, i int, masks []device.Mask) error {
	g, l := r.groups[i], b.index
	x, err := r.gather(g, func(w int) int { return r.slot(l, w) }, r.x)
	if err != nil {
		return err
	}
	p := r.pass(l, g.lo, masks)
	if p.sequences = g.sequences(); r.acts != nil {
		p.acts = r.acts.of(l, i)
		p.keep = p.acts != nil
	}
	if err := b.Forward(x, g.rows, p); err != nil {
		return err
	}
	for w := g.lo; w < g.hi; w++ {
		if err := r.keep(l, w, g.window(x, w, r.Arch.D)); err != nil {
			return err
		}
		r.step()
	}
	return nil
}

// gather copies the states of a group's windows to the beginning of x, which it returns; slot says where each is kept.
func (r *run) gather(g group, slot func(window int) int, x []float32) ([]float32, error) {
	x = x[:g.rows*r.Arch.D]
	for w := g.lo; w < g.hi; w++ {
		if err := r.states.Get(slot(w), g.window(x, w, r.Arch.D)); err != nil {
			return nil, err
		}
	}
	return x, nil
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
