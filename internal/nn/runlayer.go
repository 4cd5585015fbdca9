package nn

import (
	"context"
	"fmt"

	"modelpress/internal/device"
)

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
	r.LoadAhead(l+1, longest(r.groups), r.back)
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

// group carries the windows of a group through one block, one by one where there is too little memory for all.
func (r *run) group(b *Block, i int, masks []device.Mask) error {
	g := r.groups[i]
	if g.sequences() > 1 && r.acts == nil && b.try(g.rows) != nil {
		for w := g.lo; w < g.hi; w++ {
			if err := r.through(b, group{w, w + 1, len(r.windows[w])}, nil, masks); err != nil {
				return err
			}
		}
		return nil
	}
	var acts *activations
	if r.acts != nil {
		acts = r.acts.of(b.index, i)
	}
	return r.through(b, g, acts, masks)
}

// through carries the windows of a group through one block.
func (r *run) through(b *Block, g group, acts *activations, masks []device.Mask) error {
	l := b.index
	defer r.states.unclaim()
	x, there, err := r.enter(l, g)
	if err != nil {
		return err
	}
	p := r.pass(l, g.lo, masks)
	p.Sequences, p.acts = g.sequences(), acts
	p.keep = p.keep || acts != nil
	if err := b.ForwardBuf(x, g.rows, p); err != nil {
		return err
	}
	for w := g.lo; w < g.hi; w++ {
		if err := r.keep(l, w, x, g.at(w)*r.Arch.D, !there); err != nil {
			return err
		}
		r.step()
	}
	return nil
}

// enter returns the states of a group's windows that enter layer l, on the device, and whether they are those that are to leave it, in
// their place.
func (r *run) enter(l int, g group) (x device.Buf, there bool, err error) {
	if g.sequences() == 1 {
		if r.stride == 0 {
			x = r.states.claim(r.slot(l, g.lo), false)
		} else if x = r.states.claim(r.slot(l+1, g.lo), true); x != nil {
			err = r.states.GetBuf(r.slot(l, g.lo), x, 0)
		}
		if x != nil {
			return x, true, err
		}
	}
	x, err = r.gather(g, func(w int) int { return r.slot(l, w) }, &r.scratch.run)
	return x, false, err
}

// gather copies the states of a group's windows to the beginning of *x; slot says where each is kept.
func (r *run) gather(g group, slot func(window int) int, x *device.Buf) (device.Buf, error) {
	if err := r.scratch.fit(want{x, g.rows, r.Arch.D}); err != nil {
		return nil, fmt.Errorf("nn: states of %d windows: %w", g.sequences(), err)
	}
	for w := g.lo; w < g.hi; w++ {
		if err := r.states.GetBuf(slot(w), *x, g.at(w)*r.Arch.D); err != nil {
			return nil, err
		}
	}
	return *x, nil
}
