package nn

import (
	"context"
	"fmt"

	"modelpress/internal/device"
)

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
