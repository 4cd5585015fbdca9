package formats

import "fmt"

// DType is the element type of a stored tensor, named as the safetensors format names it.
type DType uint8

// The element types that the safetensors format of Hugging Face defines with a whole number of bytes per element.
const (
	Invalid DType = iota
	Bool
	U8
	I8
	F8E4M3
	F8E5M2
	F8E8M0
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	C64
	F64
	I64
	U64
)

var dtypes = [...]struct {
	name string
	size int
}{
	Invalid: {"INVALID", 0},
	Bool:    {"BOOL", 1}, U8: {"U8", 1}, I8: {"I8", 1},
	F8E4M3: {"F8_E4M3", 1}, F8E5M2: {"F8_E5M2", 1}, F8E8M0: {"F8_E8M0", 1},
	I16: {"I16", 2}, U16: {"U16", 2}, F16: {"F16", 2}, BF16: {"BF16", 2},
	I32: {"I32", 4}, U32: {"U32", 4}, F32: {"F32", 4},
	C64: {"C64", 8}, F64: {"F64", 8}, I64: {"I64", 8}, U64: {"U64", 8},
}

// Size returns the bytes of one element, 0 for an invalid type.
func (d DType) Size() int {
	if int(d) >= len(dtypes) {
		return 0
	}
	return dtypes[d].size
}

// String returns the safetensors name of the type.
func (d DType) String() string {
	if int(d) >= len(dtypes) {
		return "INVALID"
	}
	return dtypes[d].name
}

// ParseDType returns the type of a safetensors name.
func ParseDType(name string) (DType, error) {
	for d := Bool; int(d) < len(dtypes); d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("unknown dtype %q", name)
}

// IsFloat reports whether weights are computed with in this type: F16, BF16, F32, F64. The 8-bit floats are not among them, since
// their values mean a weight only together with a scale.
func (d DType) IsFloat() bool {
	return d == F16 || d == BF16 || d == F32 || d == F64
}

// Converts reports whether [Decode] and [Encode] know the type: those of IsFloat, F8_E4M3 and F8_E5M2.
func (d DType) Converts() bool { return d.IsFloat() || d == F8E4M3 || d == F8E5M2 }
