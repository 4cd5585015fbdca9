package packed

import (
	"math"

	"modelpress/formats"
)

// Quantize returns the tensors of Tensors for a weight w [out, in]. absmax > 0 is the largest magnitude in all projections that a
// runtime fuses, which must share the scale of a tensor and the global scale (q, k and v; gate and up); 0 says that the weight
// stands alone. Other strategies do not look at it.
//
// Scales are those of compressed-tensors (calculate_qparams, generate_gparam, generate_mx_scales): the largest magnitude over 448,
// rounded to the type of scales; for NVFP4 a global scale 448·6/absmax and, for each group, the largest magnitude over 6 times
// that, as E4M3; for MXFP4 a power of two. Codes are then the nearest values under the scales as they are stored, all in float32.
// Where the scales that w was dequantized with are found again, such that what is stored stands for w to the bit, they are taken
// instead, so that a weight that lies on the grid is encoded to itself.
//
// Memory beside w: the tensors that are returned, and 4 bytes for each scale.
func (f Float) Quantize(module string, w []float32, out, in int, absmax float32) ([]formats.Tensor, error) {
	name := module + suffixWeight
	if err := f.Check(int64(out), int64(in)); err != nil {
		return nil, formats.Errorf("", name, "%w", err)
	}
	if len(w) != out*in {
		panic("packed: a weight whose size is not its shape")
	}
	if err := formats.CheckFinite("", name, w, 0); err != nil {
		return nil, err
	}
	own := largest(w)
	if absmax <= 0 || f.Format == FormatFloat && f.Strategy != StrategyTensor {
		absmax = own
	}
	if own > absmax || math.IsInf(float64(absmax), 0) {
		return nil, formats.Errorf("", name, "a magnitude of %v, where the largest of its group is said to be %v", own, absmax)
	}
	infos := f.Tensors(module, int64(out), int64(in))
	switch f.Format {
	case FormatNVFP4:
		return fill(infos, nvfp4Data(w, absmax)), nil
	case FormatMXFP4:
		return fill(infos, mxfp4Data(w)), nil
	}
	codes, scales := f.fp8Data(w, out, in, absmax)
	if formats.CheckFinite("", name, scales, 0) != nil {
		return nil, formats.Errorf("", name, "a scale of %v/%v is past the range of %s", own, formats.E4M3Max, f.Scales)
	}
	b := make([]byte, len(scales)*f.Scales.Size())
	return fill(infos, [][]byte{codes, b}), formats.Encode(b, scales, f.Scales)
}

// largest returns the largest magnitude.
func largest(w []float32) (m float32) {
	for _, v := range w {
		m = max(m, float32(math.Abs(float64(v))))
	}
	return m
}

// fp8Data returns the codes and scales of FP8.
func (f Float) fp8Data(w []float32, out, in int, absmax float32) (codes []byte, scales []float32) {
	l, _ := f.layout()
	height, width := int(l.rows), int(l.columns)
	if height == 0 {
		height = out
	}
	if width == 0 {
		width = in
	}
	codes = make([]byte, len(w))
	for r := 0; r < out; r += height {
		for c := 0; c < in; c += width {
			b := block{w: w, in: in, r0: r, r1: min(r+height, out), c0: c, c1: min(c+width, in)}
			if f.Strategy != StrategyTensor {
				absmax = b.largest()
			}
			s := b.fp8Scale(absmax, f.Scales)
			scales = append(scales, s)
			b.fp8Codes(codes, s)
		}
	}
	return codes, scales
}

// block is the part of a weight that shares a scale.
type block struct {
	w              []float32
	in             int
	r0, r1, c0, c1 int
}

// each calls visit with every row of the block and its place in the weight, until it says no.
func (b block) each(visit func(row []float32, at int) bool) bool {
	for r := b.r0; r < b.r1; r++ {
		if at := r * b.in; !visit(b.w[at+b.c0:at+b.c1], at+b.c0) {
			return false
		}
	}
	return true
}

func (b block) largest() (m float32) {
	b.each(func(row []float32, _ int) bool {
		m = max(m, largest(row))
		return true
	})
	return m
}

func (b block) fp8Codes(codes []byte, scale float32) {
	b.each(func(row []float32, at int) bool {
		for i, v := range row {
			codes[at+i] = formats.E4M3FromF32(v / scale)
		}
		return true
	})
}

// fp8Scale returns the scale of the block, whose largest magnitude, or that of what shares its scale, is absmax.
func (b block) fp8Scale(absmax float32, dt formats.DType) float32 {
	usual := positive(absmax/formats.E4M3Max, dt)
	if absmax == 0 {
		return usual
	}
	if s, ok := b.regrid(usual, dt); ok {
		return s
	}
	// The weight may have been quantized with a scale that does not make the largest magnitude the largest code: a power of two, or one
	// for several weights.
	for top := formats.E4M3FromF32(formats.E4M3Max) - 1; top >= formats.E4M3FromF32(formats.E4M3Max/2); top-- {
		if s, ok := b.regrid(positive(absmax/formats.E4M3ToF32(top), dt), dt); ok {
			return s
		}
	}
	return usual
}

// positive rounds a scale to the type in which it is stored. One that is not positive there becomes the smallest that is: for the
// largest magnitudes that round to it, codes still fit. One that is 0, of a weight of zeros, becomes 1.
func positive(s float32, dt formats.DType) float32 {
	if s == 0 {
		return 1
	}
	if r := round(s, dt); r > 0 {
		return r
	}
	switch dt {
	case formats.F16:
		return 0x1p-24
	case formats.BF16:
		return 0x1p-133
	}
	return math.SmallestNonzeroFloat32
}

// round rounds to a value of BF16, F16 or F32.
func round(v float32, dt formats.DType) float32 {
	switch dt {
	case formats.F16:
		return formats.F16ToF32(formats.F16FromF32(v))
	case formats.BF16:
		return formats.BF16ToF32(formats.BF16FromF32(v))
	}
	return v
}
