package awq

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// Format says how a weight [out, in] is stored. It implements [formats.AffineFormat].
type Format struct {
	Group     int  // columns that share a scale; -1 for one scale per output row
	Symmetric bool // every zero point is 8; zero points are stored all the same
}

const (
	bits   = 4
	fields = 32 / bits // of a word
	middle = 1 << (bits - 1)
)

// order is the row, of the eight of a word, that each nibble belongs to.
var order = [fields]int{0, 2, 4, 6, 1, 3, 5, 7}

// Check reports why a weight [out, in] cannot be stored, nil if it can.
func (f Format) Check(out, in int64) error {
	if out <= 0 || in <= 0 || out > math.MaxInt32 || in > math.MaxInt32 {
		return fmt.Errorf("weight [%d, %d] has no usable size", out, in)
	}
	if f.Group != -1 && f.Group <= 0 {
		return fmt.Errorf("group size %d: a positive number of columns, or -1 for one scale per row, is needed", f.Group)
	}
	if out%fields != 0 {
		return fmt.Errorf("%d output features: awq packs %d rows of a weight into each word, so they must be a multiple of %d", out, fields, fields)
	}
	if f.Group != -1 && in%int64(f.Group) != 0 {
		return fmt.Errorf("%d columns do not divide into groups of %d", in, f.Group)
	}
	return nil
}

// groups returns the number of scales of a row of in columns.
func (f Format) groups(in int64) int64 {
	if f.Group == -1 {
		return 1
	}
	return in / int64(f.Group)
}

// The suffixes of the tensors that stand for one weight.
const (
	suffixWeight = ".weight"
	suffixCodes  = ".qweight"
	suffixZeros  = ".qzeros"
	suffixScales = ".scales"
)

// Tensors lists what is stored for the weight [out, in] of a linear module, sorted by name. The weight must have passed [Format.Check].
func (f Format) Tensors(module string, out, in int64) []formats.TensorInfo {
	if err := f.Check(out, in); err != nil {
		panic("awq: " + err.Error())
	}
	g := f.groups(in)
	return []formats.TensorInfo{
		{Name: module + suffixCodes, DType: formats.I32, Shape: []int64{in, out / fields}},
		{Name: module + suffixZeros, DType: formats.I32, Shape: []int64{g, out / fields}},
		{Name: module + suffixScales, DType: formats.F16, Shape: []int64{g, out}},
	}
}
