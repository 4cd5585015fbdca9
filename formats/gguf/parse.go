package gguf

import (
	"fmt"
	"io"

	"modelpress/formats"
)

// placed is a tensor with its bytes in the data section of its file.
type placed struct {
	Tensor
	offset, size int64
}

// header is the checked content of one file before its data.
type header struct {
	kv      []KV
	keys    map[string]int
	tensors []placed
	start   int64 // of the data section
	read    int64 // bytes of the header, without padding
}

// lookup returns the value of a key.
func (h *header) lookup(key string) (Value, bool) {
	i, ok := h.keys[key]
	if !ok {
		return Value{}, false
	}
	return h.kv[i].Value, true
}

// parser checks one header as it reads it.
type parser struct {
	*cursor
	file      string
	index     map[string]int // of the tensors of all files so far
	alignment int64
	header
}

// parseHeader reads the header of a file of size bytes, of which it may take budget; index numbers the tensors of the files before
// and receives those of this one.
func parseHeader(r io.ReaderAt, file string, size, budget int64, index map[string]int) (*header, error) {
	p := &parser{cursor: newCursor(r, size, budget), file: file, index: index, alignment: defaultAlignment}
	tensors, keys, err := p.counts()
	if err != nil {
		return nil, p.wrap("", err)
	}
	// Both counts are bounded by the bytes that the file has.
	p.kv, p.keys, p.tensors = make([]KV, 0, keys), make(map[string]int, keys), make([]placed, 0, tensors)
	for range keys {
		if err := p.readKV(); err != nil {
			return nil, err
		}
	}
	if err := p.setAlignment(); err != nil {
		return nil, err
	}
	for range tensors {
		if err := p.readTensor(); err != nil {
			return nil, err
		}
	}
	if err := p.checkLayout(); err != nil {
		return nil, err
	}
	return &p.header, nil
}

// wrap adds the file and the tensor to an error.
func (p *parser) wrap(tensor string, err error) error {
	return formats.Errorf(p.file, tensor, "%w", err)
}

// counts reads what stands first and returns the counts of tensors and keys. The counts are bounded by constants and by the bytes that the
// least entry takes: a key of 1 byte with a value of 1, a tensor of 1 byte's name without dimensions.
func (p *parser) counts() (tensors, keys uint64, err error) {
	const leastKV, leastTensor = 8 + 1 + 4 + 1, 8 + 1 + 4 + 4 + 8
	m, err := p.peek(len(magic))
	if err != nil {
		return 0, 0, err
	}
	if string(m) != magic {
		return 0, 0, fmt.Errorf("not a GGUF file: it starts with %q", m)
	}
	p.skip(len(magic))
	if err := p.version(); err != nil {
		return 0, 0, err
	}
	if tensors, err = p.count("tensors", MaxTensors-len(p.index), leastTensor); err != nil {
		return 0, 0, err
	}
	keys, err = p.count("keys", MaxKeys, leastKV)
	return tensors, keys, err
}

func (p *parser) version() error {
	v, err := p.uint32()
	switch {
	case err != nil:
		return err
	case v == version2 || v == version3:
		return nil
	case v == 1:
		return fmt.Errorf("version 1 of the format, which llama.cpp has dropped too, is not supported: convert the model again")
	case v&0xffff == 0:
		return fmt.Errorf("the file is big-endian, which is not supported: convert it with gguf_convert_endian.py of llama.cpp")
	}
	return fmt.Errorf("version %d of the format is not supported: versions 2 and 3 are", v)
}

func (p *parser) count(what string, limit int, least int) (uint64, error) {
	n, err := p.uint64()
	if err != nil {
		return 0, err
	}
	if n > uint64(limit) {
		return 0, fmt.Errorf("%d %s are over the limit of %d", n, what, limit)
	}
	if err := p.need(n, least); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return n, nil
}

func (p *parser) readKV() error {
	key, err := p.str(maxKeyBytes)
	if err == nil {
		err = checkKey(key)
	}
	if err != nil {
		return p.wrap("", fmt.Errorf("key %d: %w", len(p.kv), err))
	}
	if _, ok := p.keys[key]; ok {
		return p.wrap("", fmt.Errorf("key %.80q is there twice", key))
	}
	v, err := p.readValue()
	if err != nil {
		return p.wrap("", fmt.Errorf("key %.80q: %w", key, err))
	}
	p.keys[key] = len(p.kv)
	p.kv = append(p.kv, KV{key, v})
	return nil
}

func (p *parser) readValue() (v Value, err error) {
	k, err := p.uint32()
	if err != nil {
		return Value{}, err
	}
	if v.Kind = Kind(k); v.Kind == KindArray {
		return p.readArray()
	}
	if !v.Kind.element() {
		return Value{}, fmt.Errorf("values of %s do not exist", v.Kind)
	}
	v.Data, err = codecs[v.Kind].one(p.cursor)
	return v, err
}

func (p *parser) readArray() (Value, error) {
	k, err := p.uint32()
	if err != nil {
		return Value{}, err
	}
	v := Value{Kind: KindArray, Elem: Kind(k)}
	if !v.Elem.element() {
		return Value{}, fmt.Errorf("arrays of %s are not supported", v.Elem)
	}
	n, err := p.uint64()
	if err != nil {
		return Value{}, err
	}
	if err := p.need(n, codecs[v.Elem].size); err != nil {
		return Value{}, fmt.Errorf("elements of an array: %w", err)
	}
	v.Data, err = codecs[v.Elem].many(p.cursor, int(n))
	return v, err
}

// element reports whether a value of this kind can stand in an array, as all can that exist but arrays.
func (k Kind) element() bool { return k <= KindFloat64 && k != KindArray }
