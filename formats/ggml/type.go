// Package ggml turns rows of values into the block types of GGUF files and back. A block holds a fixed number of values in a fixed
// number of bytes, so that every row can be read and written on its own. The layouts are those of ggml, the library below llama.cpp.
package ggml

import (
	"fmt"
	"math"
	"strings"
)

// Type is the type of a tensor in a GGUF file, by ggml's number.
type Type uint32

// The types that this package knows.
const (
	F32   Type = 0
	F16   Type = 1
	Q4_0  Type = 2
	Q4_1  Type = 3
	Q5_0  Type = 6
	Q5_1  Type = 7
	Q8_0  Type = 8
	Q2_K  Type = 10
	Q3_K  Type = 11
	Q4_K  Type = 12
	Q5_K  Type = 13
	Q6_K  Type = 14
	I8    Type = 24
	I16   Type = 25
	I32   Type = 26
	I64   Type = 27
	F64   Type = 28
	BF16  Type = 30
	MXFP4 Type = 39
	NVFP4 Type = 40
)

// types gives the name of each type, the values and the bytes of its blocks.
var types = map[Type]struct {
	name        string
	block, size int
}{
	F32: {"F32", 1, 4}, F16: {"F16", 1, 2}, BF16: {"BF16", 1, 2}, F64: {"F64", 1, 8},
	I8: {"I8", 1, 1}, I16: {"I16", 1, 2}, I32: {"I32", 1, 4}, I64: {"I64", 1, 8},
	Q4_0: {"Q4_0", 32, 18}, Q4_1: {"Q4_1", 32, 20}, Q5_0: {"Q5_0", 32, 22}, Q5_1: {"Q5_1", 32, 24}, Q8_0: {"Q8_0", 32, 34},
	Q2_K: {"Q2_K", 256, 84}, Q3_K: {"Q3_K", 256, 110}, Q4_K: {"Q4_K", 256, 144}, Q5_K: {"Q5_K", 256, 176}, Q6_K: {"Q6_K", 256, 210},
	MXFP4: {"MXFP4", 32, 17}, NVFP4: {"NVFP4", 64, 36},
}

// Known reports whether the type is one of this package's.
func (t Type) Known() bool { return types[t].block != 0 }

// Block returns how many values a block holds, 0 for an unknown type.
func (t Type) Block() int { return types[t].block }

// Size returns the bytes of a block, 0 for an unknown type.
func (t Type) Size() int { return types[t].size }

// String returns ggml's name of the type.
func (t Type) String() string {
	if x, ok := types[t]; ok {
		return x.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// ParseType returns the type of a name, in either case.
func ParseType(name string) (Type, error) {
	for t, x := range types {
		if strings.EqualFold(x.name, name) {
			return t, nil
		}
	}
	return 0, fmt.Errorf("ggml: unknown type %.40q", name)
}

// RowBytes returns the bytes of n values, or an error where they are not a whole number of blocks or too many.
func (t Type) RowBytes(n int64) (int64, error) {
	x, ok := types[t]
	switch {
	case !ok:
		return 0, fmt.Errorf("ggml: unknown %s", t)
	case n < 0 || n%int64(x.block) != 0:
		return 0, fmt.Errorf("ggml: %d values are no whole number of blocks of %s, which hold %d", n, t, x.block)
	case n/int64(x.block) > math.MaxInt64/int64(x.size):
		return 0, fmt.Errorf("ggml: the size of %d values of %s is not representable", n, t)
	}
	return n / int64(x.block) * int64(x.size), nil
}
