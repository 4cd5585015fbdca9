package packed

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// Scheme says how a weight [out, in] is quantized.
type Scheme struct {
	Bits      int  // 4 or 8
	GroupSize int  // columns that share a scale; -1 for one scale per output row
	Symmetric bool // no zero points
}

// Check reports why a weight [out, in] cannot be stored under the scheme, nil if it can.
func (s Scheme) Check(out, in int64) error {
	// Version 0.18 of compressed-tensors packs other widths differently from the versions before it; these two are the same
	// in all of them.
	if s.Bits != 4 && s.Bits != 8 {
		return fmt.Errorf("%d bits per code; pack-quantized is written and read with 4 or 8", s.Bits)
	}
	if out <= 0 || in <= 0 || out > math.MaxInt32 || in > math.MaxInt32 {
		return fmt.Errorf("weight [%d, %d] has no usable size", out, in)
	}
	if s.GroupSize == -1 {
		return nil
	}
	if s.GroupSize <= 0 {
		return fmt.Errorf("group size %d: a positive number of columns, or -1 for one scale per row, is needed", s.GroupSize)
	}
	if in%int64(s.GroupSize) != 0 {
		return fmt.Errorf("%d columns do not divide into groups of %d", in, s.GroupSize)
	}
	return nil
}

// Groups returns the number of scales in a row of in columns.
func (s Scheme) Groups(in int64) int64 {
	if s.GroupSize == -1 {
		return 1
	}
	return in / int64(s.GroupSize)
}

// words returns how many 32-bit words hold n codes of b bits.
func words(n int64, b int) int64 { return (n*int64(b) + 31) / 32 }

// The suffixes of the tensors that stand for one weight.
const (
	suffixWeight = ".weight"
	suffixPacked = ".weight_packed"
	suffixScale  = ".weight_scale"
	suffixShape  = ".weight_shape"
	suffixZero   = ".weight_zero_point"
	suffixGIdx   = ".weight_g_idx"
)

// Tensors returns what is stored for the weight [out, in] of a linear module, sorted by name: the packed codes
// I32 [out, ceil(in*b/32)], the scales [out, groups] in the model's type, the shape I64 [2], and for an asymmetric scheme
// the zero points I32 [ceil(out*b/32), groups]. The scheme must have passed [Scheme.Check].
func Tensors(module string, out, in int64, s Scheme, model formats.DType) []formats.TensorInfo {
	if err := s.Check(out, in); err != nil {
		panic("packed: " + err.Error())
	}
	g := s.Groups(in)
	infos := []formats.TensorInfo{
		{Name: module + suffixPacked, DType: formats.I32, Shape: []int64{out, words(in, s.Bits)}},
		{Name: module + suffixScale, DType: model, Shape: []int64{out, g}},
		{Name: module + suffixShape, DType: formats.I64, Shape: []int64{2}},
	}
	if !s.Symmetric {
		infos = append(infos, formats.TensorInfo{
			Name: module + suffixZero, DType: formats.I32, Shape: []int64{words(out, s.Bits), g},
		})
	}
	return infos
}
