package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/quantize"
)

// run writes every part, then finishes the directory and commits it.
func (a *applier) run(ctx context.Context) error {
	if err := a.jointly(ctx); err != nil {
		return err
	}
	if err := a.mergeLayers(ctx); err != nil {
		return err
	}
	a.maps = make([]string, len(a.c.arch.Layers))
	for l := range a.maps {
		a.maps[l] = a.journal.done[partMerge(l)].Maps
	}
	if err := a.distill(ctx); err != nil {
		return err
	}
	if err := a.useTrained(); err != nil {
		return err
	}
	r := &blockRunner{applier: a, model: nn.New(a.o.Env.Device, a.view, a.viewed)}
	r.model.Spread(a.o.Env.More...)
	defer r.model.Release()
	if _, ok := a.o.Env.Device.(device.Quantizer); ok {
		z := sizesOf(a.s)
		r.model.SetAside(hessianBytes(int(z.widest)) + matrixBytes(int(z.matrix/z.widest), int(z.widest)))
	}
	if err := r.parts(ctx); err != nil {
		return err
	}
	if err := a.writer.Sync(); err != nil {
		return err
	}
	return a.finish(ctx)
}

// blockRunner streams the checkpoint through the planned steps, part by part. While a part is made durable and entered in
// the journal, the next one computes already; a crash then costs at most two parts.
type blockRunner struct {
	*applier
	model   *nn.Model
	before  map[string]journalEntry // what earlier runs finished
	pending chan error              // the part that is being made durable; nil for none
	states  *boundary               // hidden states that enter the next block; nil where they must be opened
	group   *blockGroup             // the devices, with room for the states within a block
}

func (r *blockRunner) parts(ctx context.Context) (err error) {
	r.before = maps.Clone(r.journal.done)
	var windows [][]int32
	if r.dataBlocks() {
		windows = r.set.set.Calib.IDs
	}
	r.group = newBlockGroup(r.model, windows, r.o.Env.stateLimit(), r.work)
	defer func() { err = errors.Join(err, r.settle(), r.dropStates(), r.group.close()) }()
	layers := len(r.model.Arch.Layers)
	p := r.o.Env.Progress
	p.Start("compressing", int64(layers)+2)
	defer p.Done()
	if err := r.part(ctx, partPrologue, r.prologue, ""); err != nil {
		return err
	}
	p.Add(1)
	for l := range layers {
		do := func(ctx context.Context, e *journalEntry) error { return r.layer(ctx, l, e) }
		if err := r.part(ctx, partLayer(l), do, boundaryName(r.work, l)); err != nil {
			return fmt.Errorf("layer %d: %w", l, err)
		}
		p.Add(1)
	}
	if err := r.part(ctx, partEpilogue, r.plainPart(partEpilogue), ""); err != nil {
		return err
	}
	p.Add(1)
	return nil
}

// part does one part unless an earlier run finished it, and has it made durable while the next one runs. spent is a file
// that nobody needs once the part is in the journal, "" for none.
func (r *blockRunner) part(ctx context.Context, name string, do func(context.Context, *journalEntry) error, spent string) error {
	if e, ok := r.before[name]; ok {
		r.notes = append(r.notes, e.Notes...)
		return removeIfThere(spent)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e := journalEntry{Part: name}
	if err := do(ctx, &e); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	r.notes = append(r.notes, e.Notes...)
	done, states := make(chan error, 1), r.states
	r.pending = done
	go func() { done <- r.makeDurable(e, states, spent) }()
	return nil
}

// makeDurable flushes what a part wrote, and only then enters it in the journal.
func (r *blockRunner) makeDurable(e journalEntry, states *boundary, spent string) error {
	if err := r.writer.Sync(); err != nil {
		return err
	}
	if states != nil {
		if err := errors.Join(states.sync(), formats.SyncDir(r.work)); err != nil {
			return err
		}
		var err error
		if e.State, err = states.digest(); err != nil {
			return err
		}
	}
	// What was computed from a file that changed meanwhile must not be taken over by a later run.
	if err := r.s.ck.CheckUnchanged(); err != nil {
		return err
	}
	if err := r.journal.add(e); err != nil {
		return err
	}
	return removeIfThere(spent)
}

// settle waits for the part that is being made durable.
func (r *blockRunner) settle() error {
	if r.pending == nil {
		return nil
	}
	err := <-r.pending
	r.pending = nil
	return err
}

// dropStates closes the states that the last part left.
func (r *blockRunner) dropStates() error {
	if r.states == nil {
		return nil
	}
	err := r.states.close()
	r.states = nil
	return err
}

// plainPart writes the tensors of a part that need no computation on blocks.
func (r *blockRunner) plainPart(name string) func(context.Context, *journalEntry) error {
	return func(ctx context.Context, e *journalEntry) error {
		s := newSink(r.writer)
		for _, t := range r.outs {
			if t.part != name {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.plain(s, t); err != nil {
				return err
			}
		}
		e.Tensors = s.sums
		return nil
	}
}

func (r *blockRunner) plain(s *sink, t outTensor) error {
	if t.kind == outCopy {
		return s.copy(r.stored.copies, t)
	}
	return s.round(r.view, t)
}

// prologue writes the embeddings and, where blocks will see data, the states that enter the first of them.
func (r *blockRunner) prologue(ctx context.Context, e *journalEntry) error {
	if err := r.plainPart(partPrologue)(ctx, e); err != nil {
		return err
	}
	if !r.dataBlocks() {
		return nil
	}
	b, err := r.boundary(0)
	if err != nil {
		return err
	}
	r.states = b
	return r.group.embed(ctx, b)
}

func (r *blockRunner) dataBlocks() bool { return workOf(r.sp, r.q).data }

// blockWorker changes the planned matrices of a block in place, and returns the codes of those that have some, by role.
type blockWorker interface {
	block(ctx context.Context, p *blockPass) (map[arch.Role]*quantize.Matrix, []tensorNote, error)
}

// worker returns what changes blocks; nil for none.
func (r *blockRunner) worker() blockWorker {
	switch {
	case r.sp != nil:
		return &sparsifier{d: r.sp, dev: r.model.Dev, store: r.s.weightDType}
	case r.q != nil:
		return &quantizer{d: r.q, dev: r.model.Dev}
	}
	return nil
}

func (r *blockRunner) boundary(l int) (*boundary, error) {
	return openBoundary(boundaryName(r.work, l), r.lengths(), r.model.Arch.D)
}

// layer compresses and writes one block, and leaves the states for the next.
func (r *blockRunner) layer(ctx context.Context, l int, e *journalEntry) (err error) {
	name := partLayer(l)
	z := r.worker()
	if z == nil {
		return r.plainPart(name)(ctx, e)
	}
	pass, err := r.group.load(l)
	if err != nil {
		return err
	}
	defer pass.free()
	if r.dataBlocks() {
		in, err := r.enter(l)
		if err != nil {
			return err
		}
		r.group.enter(pass, in)
		// The part before may still be made durable from these very states.
		defer func() { err = errors.Join(err, r.settle(), in.close()) }()
	}
	mats, notes, err := z.block(ctx, pass)
	if err != nil {
		return err
	}
	s := newSink(r.writer)
	if err := r.writeLayer(s, name, pass.b, mats, notes); err != nil {
		return err
	}
	e.Tensors, e.Notes = s.sums, notes
	if pass.in == nil || l+1 == len(r.model.Arch.Layers) {
		return nil
	}
	if r.states, err = r.boundary(l + 1); err != nil {
		return err
	}
	return r.group.leave(ctx, pass, r.states)
}

// enter returns the states that the part before left: those in hand, once they are durable, or those of an earlier run,
// if they are the ones it entered in the journal. The caller closes them.
func (r *blockRunner) enter(l int) (*boundary, error) {
	if in := r.states; in != nil {
		r.states = nil
		return in, nil
	}
	in, err := r.boundary(l)
	if err != nil {
		return nil, err
	}
	before := partPrologue
	if l > 0 {
		before = partLayer(l - 1)
	}
	sum, err := in.digest()
	if err == nil && sum != r.before[before].State {
		err = errKind(KindGate, "remove the .partial directory and apply again", "the saved states that enter layer %d are damaged", l)
	}
	if err != nil {
		return nil, errors.Join(err, in.close())
	}
	return in, nil
}

func removeIfThere(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pipeline: %w", err)
	}
	return nil
}
