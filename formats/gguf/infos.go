package gguf

import (
	"fmt"
	"slices"

	"modelpress/formats"
	"modelpress/formats/ggml"
)

// setAlignment takes the alignment from the metadata.
func (p *parser) setAlignment() error {
	v, ok := p.lookup(keyAlignment)
	if !ok {
		return nil
	}
	a, ok := v.Data.(uint32)
	switch {
	case !ok:
		return p.wrap("", fmt.Errorf("key %q: a uint32 is needed", keyAlignment))
	case a == 0 || a&(a-1) != 0:
		return p.wrap("", fmt.Errorf("key %q: %d is no power of two", keyAlignment, a))
	case a > MaxAlignment:
		return p.wrap("", fmt.Errorf("key %q: %d is over the limit of %d", keyAlignment, a, MaxAlignment))
	}
	p.alignment = int64(a)
	return nil
}

// readTensor reads the entry of one tensor.
func (p *parser) readTensor() error {
	name, err := p.str(MaxNameBytes)
	if err == nil {
		err = checkName(name)
	}
	if err != nil {
		return p.wrap("", fmt.Errorf("name of tensor %d: %w", len(p.tensors), err))
	}
	if _, ok := p.index[name]; ok {
		return formats.Errorf(p.file, name, "a tensor of this name was there before")
	}
	t := placed{Tensor: Tensor{Name: name}}
	if err := p.readInfo(&t); err != nil {
		return p.wrap(name, err)
	}
	p.index[name] = len(p.index)
	p.tensors = append(p.tensors, t)
	return nil
}

// readInfo reads what stands behind the name: dimensions, type and offset.
func (p *parser) readInfo(t *placed) error {
	if err := p.readShape(t); err != nil {
		return err
	}
	k, err := p.uint32()
	if err != nil {
		return err
	}
	t.Type = ggml.Type(k)
	if t.size, err = t.Bytes(); err != nil {
		return err
	}
	off, err := p.uint64()
	if err != nil {
		return err
	}
	if off > uint64(p.size) {
		return fmt.Errorf("data at offset %d is past the end of the file (%d bytes)", off, p.size)
	}
	t.offset = int64(off)
	return nil
}

func (p *parser) readShape(t *placed) error {
	n, err := p.uint32()
	if err != nil {
		return err
	}
	if n > MaxDimensions {
		return fmt.Errorf("%d dimensions are over the limit of %d", n, MaxDimensions)
	}
	t.Shape = make([]int64, n)
	for i := range t.Shape {
		d, err := p.uint64()
		if err != nil {
			return err
		}
		t.Shape[i] = int64(d) // a number past the range is negative here and refused by Elements
	}
	slices.Reverse(t.Shape)
	return nil
}

// checkLayout checks that the data of the tensors lie one after another in the order of the list, each padded to the alignment, within
// the file, and that nothing follows. The padding after the last may be missing: llama.cpp loads such a file, though other programs that
// use ggml do not.
func (p *parser) checkLayout() error {
	start, _ := pad(p.pos, p.alignment) // both are small
	p.header.read, p.header.start = p.pos, min(start, p.size)
	data, end := p.size-p.header.start, int64(0)
	for i := range p.tensors {
		t := &p.tensors[i]
		switch {
		case t.offset < end:
			return formats.Errorf(p.file, t.Name, "data at offset %d overlaps what stands before, which ends at %d with its padding", t.offset, end)
		case t.offset > end:
			return formats.Errorf(p.file, t.Name, "data at offset %d is not where it must be, at %d", t.offset, end)
		case t.size > data-t.offset:
			return formats.Errorf(p.file, t.Name, "%d bytes of data at offset %d end past the file's %d bytes of data: the file is truncated or damaged", t.size, t.offset, data)
		}
		end, _ = pad(t.offset+t.size, p.alignment) // the sum is within the file
	}
	if data > end {
		return formats.Errorf(p.file, "", "%d bytes after the last tensor belong to no tensor", data-end)
	}
	return nil
}
