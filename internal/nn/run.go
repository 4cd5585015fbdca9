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
	// At says at which layers Output looks; nil for all. What nobody looks at need not leave the device.
	At func(layer int) bool
	// Together is a number of positions up to which windows of one length that follow one another go through a layer at once, where
	// there is no Pass; 0 for what [Model.Together] says. No bit depends on it. Memory
	// is that of a window of so many positions; where there is too little of it, windows go one at a time.
	Together int
	// Final sees the final hidden states [T, D] of each window on the device, as each of Run does on the host. It may be nil.
	Final func(window int, hidden device.Buf) error
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
	switch {
	case opt.Pass != nil:
		opt.Together = 0
	case opt.Together == 0:
		opt.Together = m.Together()
	}
	groups := together(lengths, opt.Together)
	if _, err := product(longest(groups), d); err != nil {
		return err
	}
	states := opt.States
	if states == nil {
		if states, err = NewStates("", lengths, d, 0); err != nil {
			return err
		}
		defer states.Close()
	}
	states.OnDevice(m, longest(groups), false)
	r := &run{Model: m, opt: opt, windows: windows, groups: groups, states: states, total: len(windows) * len(m.Arch.Layers)}
	defer r.DropAhead()
	forward := r.forward
	if m.spreads(windows, &opt) {
		forward = r.shared
	}
	if err := forward(ctx); err != nil {
		return err
	}
	return r.finish(ctx, each)
}

// RemoteTogether is the number of positions up to which windows of one length go through a layer at once where nothing else is asked for
// and the device has a memory of its own: such devices are slow at products of few rows.
const RemoteTogether = 8192

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
	back    bool             // the way back of gradients follows
	host    []float32        // [longest window, D]
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

// embed makes the input of the first layer.
func (r *run) embed(ctx context.Context) error {
	d := r.Arch.D
	for i, ids := range r.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		x := r.states.claim(r.slot(0, i), true)
		if x == nil {
			if err := r.scratch.fit(want{&r.scratch.run, len(ids), d}); err != nil {
				return fmt.Errorf("nn: embed: %w", err)
			}
			x = r.scratch.run
		}
		if err := r.EmbedBuf(x, ids); err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
		if r.opt.EmbedGate != nil {
			if z := r.opt.EmbedGate(i); z != nil {
				r.Dev.ScaleColumns(x, x, z, len(ids), d)
			}
		}
		if err := r.keep(-1, i, x, 0, x == r.scratch.run); err != nil {
			return err
		}
		r.states.unclaim()
	}
	return nil
}

// keep shows the output of a layer over a window, x [T, D] from off on, and puts it to the states unless it is there already.
func (r *run) keep(l, window int, x device.Buf, off int, put bool) error {
	if r.opt.Output != nil && (r.opt.At == nil || r.opt.At(l)) {
		if err := r.opt.Output(l, window, r.onHost(x, off, len(r.windows[window])*r.Arch.D)); err != nil {
			return err
		}
	}
	if !put {
		return nil
	}
	return r.states.PutBuf(r.slot(l+1, window), x, off)
}

// onHost returns n values of a buffer from off on, valid until the next call, not to be changed.
func (r *run) onHost(x device.Buf, off, n int) []float32 {
	if h := r.Dev.Host(x); h != nil {
		return h[off : off+n]
	}
	if len(r.host) < n {
		r.host = make([]float32, n)
	}
	r.Dev.Download(r.host[:n], x, off)
	return r.host[:n]
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

// finish shows the final states of every window.
func (r *run) finish(ctx context.Context, each func(window int, hidden []float32) error) error {
	for i, ids := range r.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if each != nil {
			if n := len(ids) * r.Arch.D; len(r.host) < n {
				r.host = make([]float32, n)
			}
			x := r.host[:len(ids)*r.Arch.D]
			if err := r.states.Get(i, x); err != nil {
				return err
			}
			if err := each(i, x); err != nil {
				return err
			}
		}
		if r.opt.Final != nil {
			x, err := r.states.Buf(i)
			if err == nil {
				err = r.opt.Final(i, x)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
