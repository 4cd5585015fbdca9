// Package gguf reads and writes GGUF files: metadata, the list of tensors, and their data by ranges of bytes. Files that were split are
// one file here. Everything read is hostile: sizes are bounded before memory is taken. The format is that of docs/gguf.md in ggml; where
// ggml's own reader (ggml/src/gguf.cpp) is stricter, it is followed.
package gguf

import (
	"bytes"
	"fmt"
)

// Kind is the type of a value of the metadata, by its number in the file.
type Kind uint32

// The kinds of values.
const (
	KindUint8 Kind = iota
	KindInt8
	KindUint16
	KindInt16
	KindUint32
	KindInt32
	KindFloat32
	KindBool
	KindString
	KindArray
	KindUint64
	KindInt64
	KindFloat64
)

// String returns the name of the kind in Go: "uint8", "string"; "array" for an array.
func (k Kind) String() string {
	switch {
	case k == KindArray:
		return "array"
	case int(k) < len(codecs):
		return codecs[k].name
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// Value is a value of the metadata. Data is of the Go type that belongs to the kind: uint8, int8, uint16, int16, uint32, int32, float32,
// bool, string, uint64, int64, float64; for an array it is a slice of the type that belongs to Elem. Arrays of arrays do not exist:
// ggml refuses them.
type Value struct {
	Kind Kind
	Elem Kind // of an array
	Data any
}

// KV is one entry of the metadata.
type KV struct {
	Key   string
	Value Value
}

// Equal reports whether two values are the same in a file: of the same kind, and bit for bit. Invalid values equal none.
func Equal(a, b Value) bool {
	x, errA := appendValue(nil, a)
	y, errB := appendValue(nil, b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}
