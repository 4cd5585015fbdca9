package importance

import (
	"context"
	"errors"
	"fmt"

	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// walk is one way of windows through a model. Memory is one block, what it needs to run, and 4*D bytes for each token of all
// windows, as [nn.Model.Run] has it, past the limit on disk.
type walk struct {
	ctx     context.Context
	m       *nn.Model
	ids     [][]int32
	states  *nn.States
	longest int
	done    int
	total   int
	show    func(done, total int)
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
	states.OnDevice(m, longest, false)
	return &walk{ctx: ctx, m: m, ids: ids, states: states, longest: longest, show: o.Progress}, nil
}

// embed puts the embedded tokens of every window into a slot.
func (w *walk) embed(slot int) error {
	for i, ids := range w.ids {
		err := w.states.Change(slot*len(w.ids)+i, func(x device.Buf) error { return w.m.EmbedBuf(x, ids) })
		if err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
	}
	return nil
}

// blocks loads each block once, in order, and has visit do with it what it likes.
func (w *walk) blocks(visit func(b *nn.Block) error) error {
	defer w.m.DropAhead()
	for l := range w.m.Arch.Layers {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		b, err := w.m.LoadBlock(l)
		if err != nil {
			return err
		}
		w.m.LoadAhead(l+1, w.longest, false)
		err = visit(b)
		b.Free()
		if err != nil {
			return err
		}
	}
	return nil
}

// change has f replace the states of a window in a slot.
func (w *walk) change(slot, window int, f func(x device.Buf, t int) error) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	err := w.states.Change(slot*len(w.ids)+window, func(x device.Buf) error { return f(x, len(w.ids[window])) })
	if err != nil {
		return err
	}
	if w.done++; w.show != nil {
		w.show(w.done, w.total)
	}
	return nil
}

// copy copies the states of a window from one slot to another.
func (w *walk) copy(to, from, window int) error {
	x, err := w.states.Buf(from*len(w.ids) + window)
	if err != nil {
		return err
	}
	return w.states.PutBuf(to*len(w.ids)+window, x, 0)
}

// close gives the states back, keeping err.
func (w *walk) close(err error) error { return errors.Join(err, w.states.Close()) }
