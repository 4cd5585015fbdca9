package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"

	"modelpress/formats"
	"modelpress/formats/packed"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/quantize"
)

// run writes every part, then finishes the directory and commits it.
func (a *applier) run(ctx context.Context) error {
	r := &blockRunner{applier: a, model: nn.New(a.o.Env.Device, a.view, a.viewed)}
	if err := r.parts(ctx); err != nil {
		return err
	}
	if err := a.writer.Sync(); err != nil {
		return err
	}
	return a.finish(ctx)
}

// blockRunner streams the checkpoint through the planned steps, part by part.
type blockRunner struct {
	*applier
	model *nn.Model
}

func (r *blockRunner) parts(ctx context.Context) error {
	layers := len(r.model.Arch.Layers)
	p := r.o.Env.Progress
	p.Start("compressing", int64(layers)+2)
	defer p.Done()
	if err := r.part(ctx, partPrologue, r.prologue); err != nil {
		return err
	}
	p.Add(1)
	for l := range layers {
		if err := r.part(ctx, partLayer(l), func(ctx context.Context, e *journalEntry) error { return r.layer(ctx, l, e) }); err != nil {
			return fmt.Errorf("layer %d: %w", l, err)
		}
		if err := removeIfThere(boundaryName(r.work, l)); err != nil {
			return err
		}
		p.Add(1)
	}
	if err := r.part(ctx, partEpilogue, r.plainPart(partEpilogue)); err != nil {
		return err
	}
	p.Add(1)
	return nil
}

// part does one part unless the journal has it, makes its data durable, and enters it in the journal.
func (r *blockRunner) part(ctx context.Context, name string, do func(context.Context, *journalEntry) error) error {
	if e, ok := r.journal.done[name]; ok {
		r.notes = append(r.notes, e.Notes...)
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e := journalEntry{Part: name}
	if err := do(ctx, &e); err != nil {
		return err
	}
	if err := r.writer.Sync(); err != nil {
		return err
	}
	// What was computed from a file that changed meanwhile must not be taken over by a later run.
	if err := r.s.ck.CheckUnchanged(); err != nil {
		return err
	}
	r.notes = append(r.notes, e.Notes...)
	return r.journal.add(e)
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
		return s.copy(r.s.ck, t)
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
	err = r.embed(ctx, b)
	if err == nil {
		err = errors.Join(b.sync(), formats.SyncDir(r.work))
	}
	if err == nil {
		e.State, err = b.digest()
	}
	return errors.Join(err, b.close())
}

func (r *blockRunner) dataBlocks() bool { return r.q != nil && r.q.needsData() }

func (r *blockRunner) boundary(l int) (*boundary, error) {
	lengths := make([]int, len(r.set.set.Calib.IDs))
	for i, w := range r.set.set.Calib.IDs {
		lengths[i] = len(w)
	}
	return openBoundary(r.work, l, lengths, r.model.Arch.D)
}

func (r *blockRunner) embed(ctx context.Context, b *boundary) error {
	var x []float32
	for i, ids := range r.set.set.Calib.IDs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n := b.elements(i); cap(x) < n {
			x = make([]float32, n)
		}
		x = x[:b.elements(i)]
		if err := r.model.Embed(x, ids); err != nil {
			return err
		}
		if err := b.put(i, x); err != nil {
			return err
		}
	}
	return nil
}

// layer compresses and writes one block, and leaves the states for the next.
func (r *blockRunner) layer(ctx context.Context, l int, e *journalEntry) error {
	name := partLayer(l)
	if r.q == nil {
		return r.plainPart(name)(ctx, e)
	}
	b, err := r.model.LoadBlock(l)
	if err != nil {
		return err
	}
	defer b.Free()
	z := &quantizer{d: r.q, model: r.model}
	var in *boundary
	if r.dataBlocks() {
		z.windows = r.set.set.Calib.IDs
		if in, err = r.enter(l); err != nil {
			return err
		}
		defer in.close()
	}
	mats, notes, err := z.block(ctx, b, in)
	if err != nil {
		return err
	}
	e.Notes = notes
	s := newSink(r.writer)
	if err := r.writeLayer(s, name, b, mats); err != nil {
		return err
	}
	e.Tensors = s.sums
	if in == nil || l+1 == len(r.model.Arch.Layers) {
		return nil
	}
	e.State, err = r.leave(ctx, z, b, in, l+1)
	return err
}

// enter opens the states that the part before left, and checks that they are the ones it entered in the journal.
func (r *blockRunner) enter(l int) (*boundary, error) {
	in, err := r.boundary(l)
	if err != nil {
		return nil, err
	}
	before := partPrologue
	if l > 0 {
		before = partLayer(l - 1)
	}
	sum, err := in.digest()
	if err == nil && sum != r.journal.done[before].State {
		err = errKind(KindGate, "remove the .partial directory and apply again", "the saved states that enter layer %d are damaged", l)
	}
	if err != nil {
		return nil, errors.Join(err, in.close())
	}
	return in, nil
}

func (r *blockRunner) leave(ctx context.Context, z *quantizer, b *nn.Block, in *boundary, next int) (string, error) {
	out, err := r.boundary(next)
	if err != nil {
		return "", err
	}
	err = z.forward(ctx, b, in, out)
	if err == nil {
		err = errors.Join(out.sync(), formats.SyncDir(r.work))
	}
	var sum string
	if err == nil {
		sum, err = out.digest()
	}
	return sum, errors.Join(err, out.close())
}

// writeLayer writes every tensor of a block in the planned order.
func (r *blockRunner) writeLayer(s *sink, part string, b *nn.Block, mats map[arch.Role]*quantize.Matrix) error {
	coded := map[string][]byte{}
	for _, t := range r.outs {
		if t.part != part {
			continue
		}
		var err error
		switch t.kind {
		case outPacked:
			if _, ok := coded[t.Name]; !ok {
				err = r.encode(coded, t.from, b, mats)
			}
			if err == nil {
				err = s.bytes(t.Name, coded[t.Name])
				delete(coded, t.Name)
			}
		case outDequant:
			err = s.dequantized(t, b)
		default:
			err = r.plain(s, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// encode packs the matrix that a weight became.
func (r *blockRunner) encode(into map[string][]byte, weight string, b *nn.Block, mats map[arch.Role]*quantize.Matrix) error {
	for role, m := range mats {
		lin := b.Arch().Linears[role]
		if lin.Weight != weight {
			continue
		}
		list, err := packed.Encode(lin.Module(), int64(lin.Out), int64(lin.In), r.q.packedScheme(), r.q.store(), m.Codes, m.Scales, m.Zeros)
		if err != nil {
			return err
		}
		for _, t := range list {
			into[t.Name] = t.Data
		}
		return nil
	}
	return fmt.Errorf("pipeline: weight %q was planned and not quantized", weight)
}

// dequantized writes a stored tensor from the projections that lie in it, in the layout of the source.
func (s *sink) dequantized(t outTensor, b *nn.Block) error {
	n, err := t.Elements()
	if err != nil {
		return formats.Errorf("model", t.Name, "%w", err)
	}
	stored := make([]float32, n)
	for role, lin := range b.Arch().Linears {
		if lin.Weight != t.from {
			continue
		}
		w, err := b.Weight(arch.Role(role))
		if err != nil {
			return err
		}
		place(stored, w, lin)
	}
	return s.values(t.TensorInfo, stored)
}

// place puts a logical weight [Out, In] at its rows of the stored tensor, [StoredOut, In] or transposed.
func place(stored, w []float32, lin arch.Linear) {
	total := max(lin.StoredOut, lin.Out)
	for o := range lin.Out {
		row := w[o*lin.In : (o+1)*lin.In]
		if !lin.Transposed {
			copy(stored[(lin.Row+o)*lin.In:], row)
			continue
		}
		for i, v := range row {
			stored[i*total+lin.Row+o] = v
		}
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pipeline: %w", err)
	}
	return nil
}
