// Package gguf reads and writes GGUF files: metadata, the list of tensors, and their data by ranges of bytes. Files that were split are
// one file here. Everything read is hostile: sizes are bounded before memory is taken.
package gguf

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

// Value is a value of the metadata. Data is of the Go type that belongs to the kind: uint8, int8, uint16, int16, uint32, int32, float32,
// bool, string, uint64, int64, float64; for an array it is a slice of the type that belongs to Elem.
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

// Uint32 makes a value.
func Uint32(v uint32) Value { return Value{Kind: KindUint32, Data: v} }

// Uint64 makes a value.
func Uint64(v uint64) Value { return Value{Kind: KindUint64, Data: v} }

// Int32 makes a value.
func Int32(v int32) Value { return Value{Kind: KindInt32, Data: v} }

// Uint16 makes a value.
func Uint16(v uint16) Value { return Value{Kind: KindUint16, Data: v} }

// Float32 makes a value.
func Float32(v float32) Value { return Value{Kind: KindFloat32, Data: v} }

// Bool makes a value.
func Bool(v bool) Value { return Value{Kind: KindBool, Data: v} }

// String makes a value.
func String(v string) Value { return Value{Kind: KindString, Data: v} }

// Strings makes an array.
func Strings(v []string) Value { return Value{Kind: KindArray, Elem: KindString, Data: v} }

// Int32s makes an array.
func Int32s(v []int32) Value { return Value{Kind: KindArray, Elem: KindInt32, Data: v} }

// Uint32s makes an array.
func Uint32s(v []uint32) Value { return Value{Kind: KindArray, Elem: KindUint32, Data: v} }

// Float32s makes an array.
func Float32s(v []float32) Value { return Value{Kind: KindArray, Elem: KindFloat32, Data: v} }

// Bools makes an array.
func Bools(v []bool) Value { return Value{Kind: KindArray, Elem: KindBool, Data: v} }
