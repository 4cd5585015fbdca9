package convert

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"modelpress/formats"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
)

// prove reads the weights again whose codes were carried over, as a reader of the format does, and compares every value with the source's.
func (d *directory) prove(ctx context.Context, dir string, config []byte, notes map[string]Note) (*Proof, error) {
	var carried []gridded
	for _, p := range d.pieces {
		if g, ok := p.(gridded); ok && notes[g.outs()[0].Name].How == Carried {
			carried = append(carried, g)
		}
	}
	if len(carried) == 0 {
		return nil, nil
	}
	// The configuration is written last of all; the reader needs it now.
	path := filepath.Join(dir, configName)
	if err := formats.WriteFileAtomic(path, config); err != nil {
		return nil, err
	}
	back, err := checkpoint.Open(dir, checkpoint.Options{AllowRemoteCode: true})
	if err != nil {
		return nil, fmt.Errorf("convert: the written result does not open: %w", err)
	}
	defer back.Close()
	proof := &Proof{}
	p := d.o.Env.Progress
	p.Start("comparing", int64(len(carried)))
	defer p.Done()
	for _, g := range carried {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := g.prove(back.Quantized, proof); err != nil {
			return nil, err
		}
		p.Add(1)
	}
	return proof, os.Remove(path)
}

// prove compares one weight.
func (g gridded) prove(back formats.Quantized, proof *Proof) error {
	a, err := g.quant.Affine(g.weight)
	if err != nil {
		return err
	}
	b, err := back.Affine(g.module + ".weight")
	if err != nil {
		return err
	}
	if a.Out != b.Out || a.In != b.In {
		return gate("%s: [%d, %d] became [%d, %d]", g.weight, a.Out, a.In, b.Out, b.In)
	}
	var sum errorSum
	compare(a, b, &sum)
	return proof.add(g.weight, sum)
}

func gate(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.KindGate, Err: fmt.Errorf("convert: "+format, args...), Hint: "this is a fault of the program: please report it with the checkpoint"}
}
