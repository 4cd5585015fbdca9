package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// codec reads and writes the values of one kind.
type codec struct {
	name string
	size int // the fewest bytes that a value takes
	one  func(c *cursor) (any, error)
	many func(c *cursor, n int) (any, error)
	// put appends v, which is a value or, where array is set, a slice of them, and reports whether it was one.
	put func(b []byte, v any, array bool) ([]byte, bool)
	// count returns the length of a slice of values, 0 for anything else.
	count func(v any) int
}

var little = binary.LittleEndian

// codecs has the codec of each kind; that of KindArray is empty.
var codecs = [...]codec{
	KindUint8: fixed("uint8", 1, func(b []byte) (uint8, bool) { return b[0], true },
		func(b []byte, v uint8) []byte { return append(b, v) }),
	KindInt8: fixed("int8", 1, func(b []byte) (int8, bool) { return int8(b[0]), true },
		func(b []byte, v int8) []byte { return append(b, byte(v)) }),
	KindUint16: fixed("uint16", 2, func(b []byte) (uint16, bool) { return little.Uint16(b), true },
		func(b []byte, v uint16) []byte { return little.AppendUint16(b, v) }),
	KindInt16: fixed("int16", 2, func(b []byte) (int16, bool) { return int16(little.Uint16(b)), true },
		func(b []byte, v int16) []byte { return little.AppendUint16(b, uint16(v)) }),
	KindUint32: fixed("uint32", 4, func(b []byte) (uint32, bool) { return little.Uint32(b), true },
		func(b []byte, v uint32) []byte { return little.AppendUint32(b, v) }),
	KindInt32: fixed("int32", 4, func(b []byte) (int32, bool) { return int32(little.Uint32(b)), true },
		func(b []byte, v int32) []byte { return little.AppendUint32(b, uint32(v)) }),
	KindFloat32: fixed("float32", 4, func(b []byte) (float32, bool) { return math.Float32frombits(little.Uint32(b)), true },
		func(b []byte, v float32) []byte { return little.AppendUint32(b, math.Float32bits(v)) }),
	KindBool:   fixed("bool", 1, getBool, putBool),
	KindString: {name: "string", size: 8, one: oneString, many: manyStrings, put: putStrings, count: count[string]},
	KindUint64: fixed("uint64", 8, func(b []byte) (uint64, bool) { return little.Uint64(b), true },
		func(b []byte, v uint64) []byte { return little.AppendUint64(b, v) }),
	KindInt64: fixed("int64", 8, func(b []byte) (int64, bool) { return int64(little.Uint64(b)), true },
		func(b []byte, v int64) []byte { return little.AppendUint64(b, uint64(v)) }),
	KindFloat64: fixed("float64", 8, func(b []byte) (float64, bool) { return math.Float64frombits(little.Uint64(b)), true },
		func(b []byte, v float64) []byte { return little.AppendUint64(b, math.Float64bits(v)) }),
}

// fixed makes the codec of a kind whose values take size bytes.
func fixed[T any](name string, size int, get func([]byte) (T, bool), put func([]byte, T) []byte) codec {
	return codec{name: name, size: size,
		one: func(c *cursor) (any, error) {
			s, err := numbers(c, 1, size, name, get)
			if err != nil {
				return nil, err
			}
			return s[0], nil
		},
		many: func(c *cursor, n int) (any, error) { return numbers(c, n, size, name, get) },
		put: func(b []byte, v any, array bool) ([]byte, bool) {
			if x, ok := v.(T); ok && !array {
				return put(b, x), true
			}
			s, ok := v.([]T)
			for _, x := range s {
				b = put(b, x)
			}
			return b, ok && array
		},
		count: count[T],
	}
}

func count[T any](v any) int {
	s, _ := v.([]T)
	return len(s)
}

// numbers reads n values of size bytes each. The caller has checked that the file has them.
func numbers[T any](c *cursor, n, size int, name string, get func([]byte) (T, bool)) ([]T, error) {
	out := make([]T, 0, n)
	for len(out) < n {
		p, err := c.peek(min(n-len(out), chunk/size) * size)
		if err != nil {
			return nil, err
		}
		for at := 0; at < len(p); at += size {
			v, ok := get(p[at:])
			if !ok {
				return nil, fmt.Errorf("byte %#02x is no %s", p[at], name)
			}
			out = append(out, v)
		}
		c.skip(len(p))
	}
	return out, nil
}

// getBool takes 0 and 1 alone, as the specification asks.
func getBool(b []byte) (value, ok bool) { return b[0] == 1, b[0] <= 1 }

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func oneString(c *cursor) (any, error) { return c.str(MaxHeaderBytes) }

func manyStrings(c *cursor, n int) (any, error) {
	out := make([]string, n)
	for i := range out {
		s, err := c.str(MaxHeaderBytes)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		out[i] = s
	}
	return out, nil
}

func putStrings(b []byte, v any, array bool) ([]byte, bool) {
	if s, ok := v.(string); ok && !array {
		return appendString(b, s), true
	}
	list, ok := v.([]string)
	for _, s := range list {
		b = appendString(b, s)
	}
	return b, ok && array
}

func appendString(b []byte, s string) []byte {
	return append(little.AppendUint64(b, uint64(len(s))), s...)
}
