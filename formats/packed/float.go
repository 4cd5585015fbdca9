package packed

import (
	"fmt"

	"modelpress/formats"
)

// The strategies of [Float]: what shares a scale. Those of FP4 follow from the format.
const (
	StrategyTensor  = "tensor"  // the whole weight
	StrategyChannel = "channel" // an output row
	StrategyBlock   = "block"   // a block of 128 rows and 128 columns
	strategyGroup   = "group"
	strategyLocal   = "tensor_group" // groups whose scales have a scale of their own
	strategyToken   = "token"        // of activations
)

// blockSide is the height and width of a block: that of DeepSeek-V3 (arXiv:2412.19437, section 3.3.2), and the only one that
// runtimes take.
const blockSide = 128

// Float is a setting of a format whose codes are floats: FormatFloat with a strategy, FormatNVFP4 or FormatMXFP4. A runtime
// quantizes the activations of FP8 as it goes, token by token, in groups of 128 where the weight is in blocks; those of FP4 it
// leaves alone (the presets NVFP4A16, MXFP4A16).
type Float struct {
	Format   string
	Strategy string        // StrategyTensor, StrategyChannel or StrategyBlock with FormatFloat, else ""
	Scales   formats.DType // the type of FP8 scales: that of the model, or F32; FP4 has types of its own
}

// layout returns how a weight is stored, with block sizes 0 for whole dimensions.
func (f Float) layout() (layout, error) {
	switch {
	case f.Format == FormatFloat && f.Strategy == StrategyTensor:
		return layout{code: formats.F8E4M3}, checkScales(f.Scales)
	case f.Format == FormatFloat && f.Strategy == StrategyChannel:
		return layout{code: formats.F8E4M3, rows: 1}, checkScales(f.Scales)
	case f.Format == FormatFloat && f.Strategy == StrategyBlock:
		return layout{code: formats.F8E4M3, rows: blockSide, columns: blockSide, cut: true}, checkScales(f.Scales)
	case f.Format == FormatNVFP4 && f.Strategy == "":
		return nvfp4(), nil
	case f.Format == FormatMXFP4 && f.Strategy == "":
		return mxfp4(), nil
	}
	return layout{}, fmt.Errorf("format %.40q with strategy %.40q is not written", f.Format, f.Strategy)
}

// Check reports why a weight [out, in] cannot be stored, nil if it can.
func (f Float) Check(out, in int64) error {
	l, err := f.layout()
	if err != nil {
		return err
	}
	return l.check(out, in)
}

// Tensors lists what is stored for the weight of a linear module, sorted by name. FP8: the codes F8_E4M3 [out, in] as weight, and
// the scales in the type Scales, [1], [out, 1] or [ceil(out/128), ceil(in/128)]. FP4: two codes in each byte of U8 [out, in/2],
// the even column in the low half, and scales [out, in/16] F8_E4M3 with one global scale F32 [1], or [out, in/32] U8 (E8M0). The
// weight must have passed Check.
func (f Float) Tensors(module string, out, in int64) []formats.TensorInfo {
	l, err := f.layout()
	mustFit(err)
	mustFit(l.check(out, in))
	if !l.fp4() {
		return []formats.TensorInfo{
			{Name: module + suffixWeight, DType: formats.F8E4M3, Shape: []int64{out, in}},
			{Name: module + suffixScale, DType: f.Scales, Shape: l.scaleShape(out, in)},
		}
	}
	list := []formats.TensorInfo{
		{Name: module + suffixPacked, DType: formats.U8, Shape: []int64{out, in / 2}},
		{Name: module + suffixScale, DType: l.scale, Shape: l.scaleShape(out, in)},
	}
	if l.global != "" {
		global := formats.TensorInfo{Name: module + l.global, DType: formats.F32, Shape: []int64{1}}
		list = append([]formats.TensorInfo{global}, list...)
	}
	return list
}
