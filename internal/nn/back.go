package nn

import (
	"context"
	"errors"
	"fmt"

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

// backRun is one call of Back. The gradients take the place of the final states.
type backRun struct {
	*run
	opt  BackOptions
	grad []float32 // [longest window, D], where the host is shown a gradient
}

func (b *backRun) all(ctx context.Context, loss func(window int, hidden, grad []float32) error) error {
	if err := b.forward(ctx); err != nil {
		return err
	}
	last := len(b.Arch.Layers)
	if _, ok := b.Dev.(device.Remote); ok {
		b.LoadAhead(last-1, longest(b.groups), true)
	}
	for i := range b.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.loss(i, b.slot(last, i), loss); err != nil {
			return err
		}
	}
	for l := last - 1; l >= 0; l-- {
		if err := b.layerBack(ctx, l); err != nil {
			return err
		}
	}
	return b.layerDone(-1)
}

// loss replaces the final states of a window by the gradient of the loss by them.
func (b *backRun) loss(i, slot int, loss func(window int, hidden, grad []float32) error) error {
	n := len(b.windows[i]) * b.Arch.D
	if b.opt.Loss == nil {
		x, g := b.room(&b.host, n), b.room(&b.grad, n)
		clear(g)
		if err := b.states.Get(slot, x); err != nil {
			return err
		}
		if err := loss(i, x, g); err != nil {
			return err
		}
		return b.states.Put(slot, g)
	}
	if err := b.scratch.fit(want{&b.scratch.grad, n, 1}); err != nil {
		return fmt.Errorf("nn: gradient of window %d: %w", i, err)
	}
	x, err := b.states.Buf(slot)
	if err != nil {
		return err
	}
	g := b.Dev.Slice(b.scratch.grad, 0, n)
	b.Dev.Zero(g, 0, n)
	if err := b.opt.Loss(i, b.Dev.Slice(x, 0, n), g); err != nil {
		return err
	}
	return b.states.PutBuf(slot, g, 0)
}

// room returns n values of a slice that is made long enough.
func (b *backRun) room(s *[]float32, n int) []float32 {
	if len(*s) < n {
		*s = make([]float32, n)
	}
	return (*s)[:n]
}

func (b *backRun) layerDone(l int) error {
	if b.opt.LayerDone == nil {
		return nil
	}
	return b.opt.LayerDone(l)
}

// layerBack takes the gradients of all windows back through one block.
func (b *backRun) layerBack(ctx context.Context, l int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	block, err := b.LoadBlock(l)
	if err != nil {
		return err
	}
	defer block.Free()
	b.LoadAhead(l-1, longest(b.groups), true)
	p := BackPass{Stop: l == 0 && b.opt.Grad == nil && b.opt.Output == nil && b.opt.Grads == nil && b.opt.Heads == nil}
	if b.opt.Masks != nil {
		p.Masks = b.opt.Masks(l)
	}
	if b.opt.Mix != nil {
		p.Mix = b.opt.Mix(l)
	}
	if b.opt.Grads != nil {
		p.Grads = b.opt.Grads(l)
	}
	for i, g := range b.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.acts, p.sequences = b.acts.of(l, i), g.sequences()
		if b.opt.Gates != nil {
			p.Gates = b.opt.Gates(l, g.lo)
		}
		if b.opt.Heads != nil && b.opt.at(l) {
			p.Heads = func(a *AttnState, dq, dk, dv []float32) error { return b.opt.Heads(l, g.lo, a, dq, dk, dv) }
		}
		if b.opt.Tap != nil {
			p.Tap = func(s *AttnGradState) error { return b.opt.Tap(l, g.lo, s) }
		}
		if err := b.groupBack(block, g, &p); err != nil {
			return err
		}
	}
	return b.layerDone(l)
}

// groupBack takes the gradients of a group's windows back through a block.
func (b *backRun) groupBack(block *Block, g group, p *BackPass) error {
	l, d := block.index, b.Arch.D
	defer b.states.unclaim()
	x, err := b.states.claimed(g, b.slot(l, g.lo), func() (device.Buf, error) {
		return b.gather(g, func(w int) int { return b.slot(l, w) }, &b.scratch.run)
	})
	if err != nil {
		return err
	}
	last := len(b.Arch.Layers)
	grad, err := b.states.claimed(g, b.slot(last, g.lo), func() (device.Buf, error) {
		return b.gather(g, func(w int) int { return b.slot(last, w) }, &b.scratch.grad)
	})
	if err != nil {
		return err
	}
	if err := block.BackwardBuf(x, grad, g.rows, p); err != nil {
		return err
	}
	for w := g.lo; w < g.hi; w++ {
		if err := b.windowDone(l, w, x, grad, g.at(w)*d); err != nil {
			return err
		}
		b.step()
	}
	return nil
}

// claimed returns the state in a slot where a single window's lies on the device, and what else makes of it otherwise.
func (s *States) claimed(g group, slot int, otherwise func() (device.Buf, error)) (device.Buf, error) {
	if g.sequences() == 1 {
		if x := s.claim(slot, false); x != nil {
			return x, nil
		}
	}
	return otherwise()
}

// windowDone shows and keeps the gradient by the input x of a layer over a window, whose values begin at a place of both.
func (b *backRun) windowDone(l, w int, x, grad device.Buf, at int) error {
	n := len(b.windows[w]) * b.Arch.D
	if b.opt.Output != nil && b.opt.at(l-1) {
		if err := b.output(l-1, w, b.onHost(x, at, n), grad, at); err != nil {
			return err
		}
	}
	slot := b.slot(len(b.Arch.Layers), w)
	if b.opt.Grad != nil && b.opt.at(l) {
		if err := b.opt.Grad(l, w, b.gradOf(grad, at, n)); err != nil {
			return err
		}
	}
	if grad == b.scratch.grad {
		if err := b.states.PutBuf(slot, grad, at); err != nil {
			return err
		}
	}
	if b.opt.WindowDone != nil {
		return b.opt.WindowDone(l, w)
	}
	return nil
}

// output lets the caller add to the gradient by the output x of a layer over a window.
func (b *backRun) output(l, w int, x []float32, grad device.Buf, at int) error {
	g := b.gradOf(grad, at, len(x))
	if err := b.opt.Output(l, w, x, g); err != nil {
		return err
	}
	if b.Dev.Host(grad) == nil {
		b.Dev.Upload(grad, at, g)
	}
	return nil
}

// gradOf returns n values of a gradient on the host, from a place on, valid until the next call.
func (b *backRun) gradOf(grad device.Buf, at, n int) []float32 {
	if h := b.Dev.Host(grad); h != nil {
		return h[at : at+n]
	}
	g := b.room(&b.grad, n)
	b.Dev.Download(g, grad, at)
	return g
}
