package gguf

import (
	"fmt"

	"modelpress/formats"
)

// Header returns the bytes of one file before its data: version 3, the keys and the tensors in the order given, offsets that lay the
// tensors one after another, and zeros up to the alignment, a power of two from 8 to MaxAlignment. It fails for what a reader would refuse.
// The bytes are those that gguf-py writes for the same keys and tensors.
func Header(kv []KV, tensors []Tensor, alignment uint32) ([]byte, error) {
	return headerWithin(MaxHeaderBytes, kv, tensors, alignment)
}

// headerWithin is Header with another limit of its bytes.
func headerWithin(limit int, kv []KV, tensors []Tensor, alignment uint32) ([]byte, error) {
	if err := checkAlignment(alignment); err != nil {
		return nil, err
	}
	if err := checkTensors(tensors); err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 1024), magic...)
	b = little.AppendUint32(b, version3)
	b = little.AppendUint64(b, uint64(len(tensors)))
	b = little.AppendUint64(b, uint64(len(kv)))
	b, err := appendKVs(b, kv)
	if err != nil {
		return nil, err
	}
	end := int64(0)
	for _, t := range tensors {
		b = appendTensor(b, t, end)
		if end, err = endOf(t, end, alignment); err != nil {
			return nil, err
		}
	}
	if len(b) > limit {
		return nil, fmt.Errorf("gguf: the metadata is over the limit of %d bytes", limit)
	}
	for len(b)%int(alignment) != 0 {
		b = append(b, 0)
	}
	return b, nil
}

// endOf returns where a tensor ends that starts at an offset, with its padding.
func endOf(t Tensor, at int64, alignment uint32) (int64, error) {
	n, err := t.Bytes()
	if err != nil {
		return 0, formats.Errorf("", t.Name, "gguf: %w", err)
	}
	padded, ok := pad(n, int64(alignment))
	if !ok || at+padded < 0 {
		return 0, formats.Errorf("", t.Name, "gguf: the size of the file is not representable")
	}
	return at + padded, nil
}

func checkAlignment(a uint32) error {
	if a < minAlignment || a > MaxAlignment || a&(a-1) != 0 {
		return fmt.Errorf("gguf: alignment %d is no power of two from %d to %d", a, minAlignment, MaxAlignment)
	}
	return nil
}

// checkTensors checks the list of tensors, all but their sizes.
func checkTensors(tensors []Tensor) error {
	if len(tensors) > MaxTensors {
		return fmt.Errorf("gguf: %d tensors are over the limit of %d", len(tensors), MaxTensors)
	}
	seen := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		if err := checkName(t.Name); err != nil {
			return formats.Errorf("", t.Name, "gguf: %w", err)
		}
		if seen[t.Name] {
			return formats.Errorf("", t.Name, "gguf: the name is there twice")
		}
		seen[t.Name] = true
	}
	return nil
}

func appendKVs(b []byte, kv []KV) ([]byte, error) {
	if len(kv) > MaxKeys {
		return nil, fmt.Errorf("gguf: %d keys are over the limit of %d", len(kv), MaxKeys)
	}
	seen := make(map[string]bool, len(kv))
	for _, e := range kv {
		err := checkKey(e.Key)
		if err == nil && seen[e.Key] {
			err = fmt.Errorf("it is there twice")
		}
		if err == nil {
			b, err = appendValue(appendString(b, e.Key), e.Value)
		}
		if err != nil {
			return nil, fmt.Errorf("gguf: key %.80q: %w", e.Key, err)
		}
		seen[e.Key] = true
	}
	return b, nil
}

// appendValue appends the kind and the value.
func appendValue(b []byte, v Value) ([]byte, error) {
	b = little.AppendUint32(b, uint32(v.Kind))
	elem, array := v.Kind, v.Kind == KindArray
	if array {
		elem = v.Elem
		b = little.AppendUint32(b, uint32(elem))
		b = little.AppendUint64(b, uint64(v.Len()))
	}
	if !elem.element() {
		return nil, fmt.Errorf("values of %s cannot be stored here", elem)
	}
	b, ok := codecs[elem].put(b, v.Data, array)
	if !ok {
		return nil, fmt.Errorf("a %s is of Go's type %T", v.Kind, v.Data)
	}
	return b, nil
}

func appendTensor(b []byte, t Tensor, offset int64) []byte {
	b = appendString(b, t.Name)
	b = little.AppendUint32(b, uint32(len(t.Shape)))
	for i := len(t.Shape) - 1; i >= 0; i-- {
		b = little.AppendUint64(b, uint64(t.Shape[i]))
	}
	b = little.AppendUint32(b, uint32(t.Type))
	return little.AppendUint64(b, uint64(offset))
}
