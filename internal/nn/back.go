package nn

import (
	"context"
	"errors"

	"modelpress/internal/device"
)

// BackOptions refine [Model.Back]; the zero value keeps all states in memory and shows nothing.
type BackOptions struct {
	Dir      string // where states go once they pass MemLimit; "" for the system's temporary directory
	MemLimit int64  // bytes of states kept in memory; 0 for no limit
	// Keep is how many bytes of activations stay on the device between the two ways, on one with a memory of its own as many as there is
	// room for beside states; blocks whose activations do not fit are run
	// again, up to the activations of the FFN. No bit of a result depends on it. The memory is kept for the next call. The activations
	// of a layer take 4*(D + 2HK + 2GK + H + 2F) bytes a token, HK + GK more floats where heads have norms, HK for gates and 2HK + H for
	// a Mix.
	Keep int64
	// Together is a number of positions up to which windows of one length that follow one another go through a layer at once, where
	// no Mix, Gates, Heads or Tap looks at single windows; 0 for one at a time. What is added up over positions depends on it in the
	// order of its sums. Memory is that of a window of so many positions.
	Together int
	// Masks returns the masks of a layer, one per KV head, nil for the layer's own. It may be nil.
	Masks func(layer int) []device.Mask
	// Mix returns the second attention of a layer and its gates, nil for none. It may be nil.
	Mix func(layer int) *Mix
	// EmbedGate and Gates return what multiplies the embedded tokens, [D], and units of a layer, nil for ones. Gates is asked for
	// each window of a layer on the way forth and on the way back and must return the same. They may be nil.
	EmbedGate func(window int) []float32
	Gates     func(layer, window int) *Gates
	// Grads returns where the gradients by the parameters of a layer are added up, nil for a frozen layer. LayerDone is called when
	// all windows have passed the layer on their way back, and with -1 when the gradients by the embedded tokens are known. They
	// may be nil.
	Grads     func(layer int) *BlockGrads
	LayerDone func(layer int) error
	// At says at which layers Output, Heads and Grad look, by the number that they are called with; nil for all. What nobody looks at need
	// not leave the device.
	At func(layer int) bool
	// Output may add to the gradient by the output x [T, D] of a layer other than the last, that of a loss of its own on it;
	// of layer -1 these are the embedded tokens. It may be nil.
	Output func(layer, window int, x, grad []float32) error
	// Heads is [BackPass.Heads] of a layer and window. It may be nil.
	Heads func(layer, window int, a *AttnState, dq, dk, dv []float32) error
	// Tap sees each layer's attention of each window with the gradient by its output, last layer first, windows
	// ascending. It may be nil; an error ends the call.
	Tap func(layer, window int, g *AttnGradState) error
	// Grad sees the gradient by the input of each layer, [T, D], valid during the call and not to be changed; for layer 0
	// that is the one by the embedded tokens. Without it the way back ends at the attention of layer 0. It may be nil; an
	// error ends the call.
	Grad func(layer, window int, grad []float32) error
	// Loss stands for the loss of Back where hidden states and gradient are to stay on the device. It may be nil.
	Loss func(window int, hidden, grad device.Buf) error
	// WindowDone is called when the gradients of a window have passed a layer on their way back, after Grad. It may be nil.
	WindowDone func(layer, window int) error
	// Progress is called after each window of each layer, forwards and backwards. It may be nil.
	Progress func(done, total int)
}

// at reports whether there is anything to be looked at in a layer.
func (o *BackOptions) at(layer int) bool { return o.At == nil || o.At(layer) }

// Back runs every window through the model and takes the gradient of a loss back to the input of its first block: each block is loaded once on the way forth and once on the way back, whatever the number of windows.
// loss gets the final hidden states of each window, [T, D] before the final norm, and adds to grad [T, D], which is zero,
// the gradient of the loss by them; both are valid during the call only.
//
// The states at all block boundaries are kept: 4*D*(L+1) bytes for each token of all windows, with L layers; what exceeds
// MemLimit lies on disk. Beside these and what Keep allows, memory is one block, what [Block.Backward] holds for the longest window or the
// windows that go together, and 8*T*D bytes for what is shown on the host. On a device with a memory of its own, states lie there as far
// as there is room, see [States.OnDevice]. Back returns early with ctx's error when ctx ends.
func (m *Model) Back(ctx context.Context, windows [][]int32, opt BackOptions, loss func(window int, hidden, grad []float32) error) (err error) {
	lengths, err := lengthsOf(windows)
	if err != nil {
		return err
	}
	var all []int
	for range len(m.Arch.Layers) + 1 {
		all = append(all, lengths...)
	}
	if opt.Mix != nil || opt.Gates != nil || opt.Heads != nil || opt.Tap != nil {
		opt.Together = 0
	}
	groups := together(lengths, opt.Together)
	if _, err := product(longest(groups), m.Arch.D); err != nil {
		return err
	}
	states, err := NewStates(opt.Dir, all, m.Arch.D, opt.MemLimit)
	if err != nil {
		return err
	}
	states.OnDevice(m, longest(groups), true)
	r := &run{Model: m, opt: RunOptions{Masks: opt.Masks, Progress: opt.Progress, EmbedGate: opt.EmbedGate}, windows: windows, groups: groups,
		states: states, back: true, total: 2 * len(m.Arch.Layers) * len(windows), stride: len(windows)}
	r.acts = m.activations(groups, m.keepable(opt.Keep, lengths, longest(groups)), opt.Mix != nil, opt.Gates != nil)
	r.acts.busy = true
	if opt.Mix != nil || opt.Gates != nil {
		r.opt.Pass = func(layer, window int) *Pass {
			var p Pass
			if opt.Mix != nil {
				p.Mix = opt.Mix(layer)
			}
			if opt.Gates != nil {
				p.Gates = opt.Gates(layer, window)
			}
			return &p
		}
	}
	b := &backRun{run: r, opt: opt}
	defer func() {
		m.DropAhead()
		r.acts.busy = false
		err = errors.Join(err, states.Close())
	}()
	return b.all(ctx, loss)
}
