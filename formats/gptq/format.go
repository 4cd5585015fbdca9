package gptq

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// Format says how a weight [out, in] is stored. It implements [formats.AffineFormat].
type Format struct {
	Bits      int  // 2, 3, 4 or 8
	Group     int  // columns that share a scale; -1 for one scale per output row
	V2        bool // zero points are stored as they are, not less 1
	ActOrder  bool // columns may belong to groups in an order of their own (desc_act)
	Symmetric bool // every zero point is 2^(Bits-1)
}

// block is how many codes fill whole words whatever their width; the original software packs that many at a time.
const block = 32

// Check reports why a weight [out, in] cannot be stored, nil if it can.
func (f Format) Check(out, in int64) error {
	switch f.Bits {
	case 2, 3, 4, 8:
	default:
		return fmt.Errorf("%d bits per code; gptq has 2, 3, 4 and 8", f.Bits)
	}
	if out <= 0 || in <= 0 || out > math.MaxInt32 || in > math.MaxInt32 {
		return fmt.Errorf("weight [%d, %d] has no usable size", out, in)
	}
	if f.Group != -1 && f.Group <= 0 {
		return fmt.Errorf("group size %d: a positive number of columns, or -1 for one scale per row, is needed", f.Group)
	}
	for _, d := range []struct {
		n    int64
		what string
	}{{in, "input"}, {out, "output"}} {
		if d.n%block != 0 {
			return fmt.Errorf("%d %s features: gptq packs %d codes at a time along both dimensions of a weight, so each must be a multiple of %d",
				d.n, d.what, block, block)
		}
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
	suffixGIdx   = ".g_idx"
)

// Tensors lists what is stored for the weight [out, in] of a linear module, sorted by name. The weight must have passed [Format.Check].
func (f Format) Tensors(module string, out, in int64) []formats.TensorInfo {
	if err := f.Check(out, in); err != nil {
		panic("gptq: " + err.Error())
	}
	g, b := f.groups(in), int64(f.Bits)
	return []formats.TensorInfo{
		{Name: module + suffixGIdx, DType: formats.I32, Shape: []int64{in}},
		{Name: module + suffixCodes, DType: formats.I32, Shape: []int64{in * b / 32, out}},
		{Name: module + suffixZeros, DType: formats.I32, Shape: []int64{g, out * b / 32}},
		{Name: module + suffixScales, DType: formats.F16, Shape: []int64{g, out}},
	}
}

// name returns what checkpoint_format calls the version.
func (f Format) name() string {
	if f.V2 {
		return formatV2
	}
	return formatV1
}

const (
	formatV1 = "gptq"
	formatV2 = "gptq_v2"
)
