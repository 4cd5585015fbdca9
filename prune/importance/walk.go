package importance

import (
	"context"
	"errors"
	"fmt"

	"modelpress/internal/nn"
)

// walk is one way of windows through a model. Memory is one block, what it needs to run, and 4*D bytes for each token of all
// windows, as [nn.Model.Run] has it, past the limit on disk.
type walk struct {
	ctx    context.Context
	m      *nn.Model
	ids    [][]int32
	states *nn.States
	x      []float32 // [longest window, D]
	done   int
	total  int
	show   func(done, total int)
}

// newWalk makes room for the states of all windows, slots times.
func (o Options) newWalk(ctx context.Context, m *nn.Model, ids [][]int32, slots int) (*walk, error) {
	longest, lengths := 0, lengthsOf(ids)
	for _, t := range lengths {
		longest = max(longest, t)
	}
	var all []int
	for range slots {
		all = append(all, lengths...)
	}
	states, err := nn.NewStates(o.Dir, all, m.Arch.D, o.MemLimit)
	if err != nil {
		return nil, err
	}
	return &walk{ctx: ctx, m: m, ids: ids, states: states, x: make([]float32, longest*m.Arch.D), show: o.Progress}, nil
}

// embed puts the embedded tokens of every window into a slot.
func (w *walk) embed(slot int) error {
	for i, ids := range w.ids {
		x := w.x[:len(ids)*w.m.Arch.D]
		if err := w.m.Embed(x, ids); err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
		if err := w.states.Put(slot*len(w.ids)+i, x); err != nil {
			return err
		}
	}
	return nil
}

// blocks loads each block once, in order, and has visit do with it what it likes.
func (w *walk) blocks(visit func(b *nn.Block) error) error {
	for l := range w.m.Arch.Layers {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		b, err := w.m.LoadBlock(l)
		if err != nil {
			return err
		}
		w.m.Prefetch(l + 1)
		err = visit(b)
		b.Free()
		if err != nil {
			return err
		}
	}
	return nil
}

// change has f replace the states of a window in a slot.
func (w *walk) change(slot, window int, f func(x []float32, t int) error) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	t, at := len(w.ids[window]), slot*len(w.ids)+window
	x := w.x[:t*w.m.Arch.D]
	if err := w.states.Get(at, x); err != nil {
		return err
	}
	if err := f(x, t); err != nil {
		return err
	}
	if w.done++; w.show != nil {
		w.show(w.done, w.total)
	}
	return w.states.Put(at, x)
}

// copy copies the states of a window from one slot to another.
func (w *walk) copy(to, from, window int) error {
	x, err := w.states.View(from*len(w.ids) + window)
	if err != nil {
		return err
	}
	return w.states.Put(to*len(w.ids)+window, x)
}

// close gives the states back, keeping err.
func (w *walk) close(err error) error { return errors.Join(err, w.states.Close()) }
