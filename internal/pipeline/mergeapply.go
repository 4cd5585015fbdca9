package pipeline

import (
	"context"
	"errors"
	"fmt"

	"modelpress/formats"
)

func partMerge(l int) string { return fmt.Sprintf("kvmerge %d", l) }

// mergeLayers computes the maps of all merged layers into the work directory, one journalled part a layer: an interrupted run goes
// on with the states that the last finished layer left.
func (a *applier) mergeLayers(ctx context.Context) error {
	if a.m == nil {
		return nil
	}
	layers := len(a.c.arch.Layers)
	first := 0
	for ; first < layers; first++ {
		if _, ok := a.journal.done[partMerge(first)]; !ok {
			break
		}
	}
	for l := range layers + 1 { // states that a killed run had no time to remove
		if l == first && first < layers {
			continue
		}
		if err := removeIfThere(mergeName(a.work, l)); err != nil {
			return err
		}
	}
	if first == layers {
		return nil
	}
	windows := a.set.set.Calib.IDs
	r := newMerger(a.c, a.m, windows, a.o.Env)
	defer r.free()
	p := a.o.Env.Progress
	p.Start("merging kv heads", int64(layers*len(windows)))
	p.Add(int64(first * len(windows)))
	defer p.Done()
	r.tick = func() { p.Add(1) }
	in, err := a.enterMerge(ctx, r, first)
	if err != nil {
		return err
	}
	for l := first; l < layers; l++ {
		out, err := a.mergeStates(l + 1)
		if err != nil {
			return errors.Join(err, in.close())
		}
		out.onDevice(r.src, r.longest())
		if err := a.mergeLayer(ctx, r, l, in, out); err != nil {
			return errors.Join(err, in.close(), out.close())
		}
		if err := errors.Join(in.close(), removeIfThere(mergeName(a.work, l))); err != nil {
			return errors.Join(err, out.close())
		}
		in = out
	}
	return errors.Join(in.close(), removeIfThere(mergeName(a.work, layers)))
}

// mergeLayer does one layer and enters it in the journal once its maps and states are safe.
func (a *applier) mergeLayer(ctx context.Context, r *merger, l int, in, out *boundary) error {
	maps, err := r.layer(ctx, l, in, out)
	if err = errors.Join(err, out.settle()); err != nil {
		return err
	}
	e := journalEntry{Part: partMerge(l)}
	if maps != nil {
		if e.Maps, err = (mapFiles{dir: a.work}).save(l, maps); err != nil {
			return err
		}
	}
	if err := errors.Join(out.sync(), formats.SyncDir(a.work)); err != nil {
		return err
	}
	if e.State, err = out.digest(); err != nil {
		return err
	}
	if err := a.s.ck.CheckUnchanged(); err != nil {
		return err
	}
	return a.journal.add(e)
}

// enterMerge opens the states that enter layer l: embedded tokens for the first, else those that an earlier run saved.
func (a *applier) enterMerge(ctx context.Context, r *merger, l int) (*boundary, error) {
	in, err := a.mergeStates(l)
	if err != nil {
		return nil, err
	}
	in.onDevice(r.src, r.longest())
	if l == 0 {
		err = errors.Join(r.embed(ctx, in), in.settle())
	} else {
		var sum string
		if sum, err = in.digest(); err == nil && sum != a.journal.done[partMerge(l-1)].State {
			err = errKind(KindGate, "remove the .partial directory and apply again", "the saved states that enter the merging of layer %d are damaged", l)
		}
	}
	if err != nil {
		return nil, errors.Join(err, in.close())
	}
	return in, nil
}

func (a *applier) mergeStates(l int) (*boundary, error) {
	return openBoundary(mergeName(a.work, l), a.lengths(), a.c.arch.D)
}

// lengths are those of the calibration windows.
func (a *applier) lengths() []int {
	out := make([]int, len(a.set.set.Calib.IDs))
	for i, w := range a.set.set.Calib.IDs {
		out[i] = len(w)
	}
	return out
}
