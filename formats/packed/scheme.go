package packed

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// Scheme says on what grids a weight [out, in] lies.
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
		return fmt.Errorf("%d bits per code; %s is written and read with 4 or 8", s.Bits, FormatPack)
	}
	if err := checkSize(out, in); err != nil {
		return err
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

func checkSize(out, in int64) error {
	if out <= 0 || in <= 0 || out > math.MaxInt32 || in > math.MaxInt32 {
		return fmt.Errorf("weight [%d, %d] has no usable size", out, in)
	}
	return nil
}

// checkScales refuses types that no reader takes scales in.
func checkScales(dt formats.DType) error {
	if dt != formats.BF16 && dt != formats.F16 && dt != formats.F32 {
		return fmt.Errorf("scales of type %s; BF16, F16 or F32 are needed", dt)
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

// The formats of compressed-tensors that this package knows, as quantization_config names them.
const (
	FormatPack     = "pack-quantized"       // integers of 4 or 8 bits in 32-bit words
	FormatInt      = "int-quantized"        // integers of 8 bits as they are
	FormatFloat    = "float-quantized"      // FP8 (E4M3)
	FormatNVFP4    = "nvfp4-pack-quantized" // FP4 in groups of 16, FP8 scales and one F32 scale over them
	FormatMXFP4    = "mxfp4-pack-quantized" // FP4 in groups of 32, scales that are powers of two
	FormatMXFP8    = "mxfp8-quantized"      // FP8 in groups of 32, scales that are powers of two; read only
	formatNaive    = "naive-quantized"      // what FormatInt and FormatFloat are, whatever the type
	formatMixed    = "mixed-precision"      // every group names its own format
	formatFP8      = "fp8"                  // quant_method "fp8"
	formatModelOpt = "modelopt"             // quant_method "modelopt", with its quant_algo
)

// The suffixes of the tensors that stand for one weight.
const (
	suffixWeight      = ".weight"
	suffixPacked      = ".weight_packed"
	suffixScale       = ".weight_scale"
	suffixShape       = ".weight_shape"
	suffixZero        = ".weight_zero_point"
	suffixGIdx        = ".weight_g_idx"
	suffixGlobal      = ".weight_global_scale"
	suffixScale2      = ".weight_scale_2"     // of ModelOpt: the reciprocal of the global scale
	suffixScaleInv    = ".weight_scale_inv"   // of quant_method "fp8": a factor like any other, in spite of its name
	suffixInput       = ".input_scale"        // of static activations
	suffixInputZero   = ".input_zero_point"   // likewise
	suffixInputGlobal = ".input_global_scale" // likewise
)

// suffixes are all of them.
var suffixes = []string{
	suffixWeight, suffixPacked, suffixScale, suffixShape, suffixZero, suffixGIdx, suffixGlobal, suffixScale2, suffixScaleInv,
	suffixInput, suffixInputZero, suffixInputGlobal,
}
