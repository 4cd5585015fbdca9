package convert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"modelpress/formats"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
)

// Convert decides a conversion and, where Options.Out names something, carries it out. Nothing of a result is at its place before
// all of it is.
func Convert(ctx context.Context, o Options) (*Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	c, err := open(&o)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := o.checkModel(c); err != nil {
		return nil, err
	}
	o.found = append(append([]string{}, c.Warnings()...), c.Notes()...)
	if c.Unknown != nil {
		o.found = append(o.found, fmt.Sprintf("which tensor is which is not known, and tensors are written as they are: %v", c.Unknown))
	}
	for _, w := range o.found {
		o.warn(w)
	}
	if o.Format == GGUF {
		return toGGUF(ctx, &o, c)
	}
	return toDirectory(ctx, &o, c)
}

func (o *Options) warn(text string) {
	if o.Env.Warn != nil {
		o.Env.Warn("%s", text)
	}
}

// open opens the model; formats that look at no names take any.
func open(o *Options) (*checkpoint.Checkpoint, error) {
	co := checkpoint.Options{AllowRemoteCode: o.AllowRemoteCode, AnyModel: o.Format == Same || o.Format == Safetensors}
	for _, s := range o.Rename {
		r, err := checkpoint.ParseRename(s)
		if err != nil {
			return nil, &pipeline.Error{Kind: pipeline.KindUsage, Err: err}
		}
		co.Rename = append(co.Rename, r)
	}
	c, err := checkpoint.Open(o.Model, co)
	if errors.Is(err, checkpoint.ErrRename) {
		err = &pipeline.Error{Kind: pipeline.KindUsage, Err: err}
	}
	return c, err
}

// run does all pieces in the order given and returns what was written. One more is done at a time than there are threads, so that one can
// wait for the disk; fewer where they would take more memory than there is.
func (o *Options) run(ctx context.Context, pieces []piece, out output) (*work, error) {
	w := &work{out: out, sums: map[string]string{}, note: map[string]Note{}}
	total := int64(0)
	for _, p := range pieces {
		total += p.values()
	}
	o.Env.Progress.Start("converting", total)
	defer o.Env.Progress.Done()
	var show sync.Mutex
	w.show = func(n int64) {
		show.Lock()
		defer show.Unlock()
		o.Env.Progress.Add(n)
	}
	room := newRoom(o.roomBytes())
	err := each(ctx, o.Threads+1, len(pieces), func(ctx context.Context, i, _ int) error {
		n := room.take(pieces[i].memory())
		defer room.give(n)
		if err := ctx.Err(); err != nil { // it was a long wait
			return err
		}
		t := &task{w, pieces[i].values()}
		if err := pieces[i].do(ctx, t); err != nil {
			return err
		}
		t.done(t.left)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// each calls do for all i below n, in order, from as many workers, whose number it is told besides. After a failure no more are begun. What
// is returned is the failure of the first i that failed, whichever came first in time.
func each(ctx context.Context, workers, n int, do func(ctx context.Context, i, worker int) error) error {
	outer := ctx
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, n)
	var next atomic.Int64
	var wait sync.WaitGroup
	for worker := range workers {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				if errs[i] = do(ctx, i, worker); errs[i] != nil {
					stop()
				}
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return outer.Err()
}

// outs lists the tensors of the result in order.
func outs(pieces []piece) []formats.TensorInfo {
	var list []formats.TensorInfo
	for _, p := range pieces {
		list = append(list, p.outs()...)
	}
	return list
}
