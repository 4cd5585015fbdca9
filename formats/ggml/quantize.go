package ggml

import (
	"encoding/binary"
	"fmt"
	"math"

	"modelpress/formats"
	"modelpress/internal/num"
)

// Quantize stores src, rows of row values, in blocks of t. Types are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K; dst
// has exactly the bytes of them.
//
// importance is nil, or has the mean square of what each column is multiplied with, [row], finite and not negative. Then the search minimizes
// the squares of what changes, weighted by it (Q8_0 and plain types have no search). A part of a block whose columns are all of importance 0 is
// searched as if they were all the same and small, where ggml would lose its values.
//
// With the same importance, or none, the bytes are those of ggml's reference quantizers (ggml-quants.c, compiled without fused multiply-adds),
// which llama-quantize runs; but for blocks whose values span less than 1e-37, parts without any importance, and importance below 1e-16, of which
// ggml's sums vanish.
//
// An error names the first value that is not finite, or the first block that the type cannot hold: its scale, or for F16 and BF16 its
// value, would be infinite.
//
// Memory: none beside dst, but for 4·row bytes with importance.
func Quantize(t Type, dst []byte, src []float32, row int, importance []float32) error {
	if err := checkQuantize(t, len(dst), len(src), row, importance); err != nil {
		return fmt.Errorf("ggml: quantize: %w", err)
	}
	q, weights := newQuantizing(t, row, importance)
	return q.quantize(t, dst, src, weights, 0)
}

// newQuantizing returns how a type is written and what its search multiplies squares with, nil for 1.
func newQuantizing(t Type, row int, importance []float32) (q quantizer, weights []float32) {
	q = quantizers[t]
	if importance != nil && q.weighted != nil {
		weights = balance(importance[:row], q.part)
	}
	return q, weights
}

// infinity has the bits of +Inf.
const infinity = 0x7f800000

// quantize writes whole rows, or without weights whole blocks; the first value has the index base in errors.
func (q quantizer) quantize(t Type, dst []byte, src, weights []float32, base int) error {
	if t == Q8_0 { // sees what is not finite along the way
		if num.QuantizeQ8(dst, src) >= infinity {
			return fmt.Errorf("ggml: quantize: %w", formats.CheckFinite("", "", src, int64(base)))
		}
		return q.check(t, dst, base)
	}
	if err := formats.CheckFinite("", "", src, int64(base)); err != nil {
		return fmt.Errorf("ggml: quantize: %w", err)
	}
	switch {
	case t == F32:
		return formats.Encode(dst, src, formats.F32)
	case t == F16:
		return encode(dst, src, formats.F16, base)
	case t == BF16:
		return encode(dst, src, formats.BF16, base)
	case weights == nil:
		q.plain(dst, src)
	default:
		q.weighted(dst, src, weights)
	}
	return q.check(t, dst, base)
}

func encode(dst []byte, src []float32, dt formats.DType, base int) error {
	if err := formats.CheckRange("", "", src, dt, int64(base)); err != nil {
		return fmt.Errorf("ggml: quantize: %w", err)
	}
	return formats.Encode(dst, src, dt)
}

// quantizer is how a type is written. Plain takes any blocks, weighted whole rows.
type quantizer struct {
	plain    func(dst []byte, src []float32)
	weighted func(dst []byte, src, importance []float32)
	scales   []int // where the scales of a block are, as F16
	part     int   // values that share a grid
}

var quantizers = map[Type]quantizer{
	Q4_0: {quantizeQ4_0, weightedQ4_0, []int{0}, 32},
	Q4_1: {quantizeQ4_1, weightedQ4_1, []int{0, 2}, 32},
	Q5_0: {quantizeQ5_0, weightedQ5_0, []int{0}, 32},
	Q5_1: {quantizeQ5_1, weightedQ5_1, []int{0, 2}, 32},
	Q8_0: {scales: []int{0}},
	Q4_K: {func(dst []byte, src []float32) { quantizeQ4K(dst, src, nil) }, quantizeQ4K, []int{0, 2}, 32},
	Q5_K: {func(dst []byte, src []float32) { quantizeQ5K(dst, src, nil) }, quantizeQ5K, []int{0, 2}, 32},
	Q6_K: {func(dst []byte, src []float32) { quantizeQ6K(dst, src, nil) }, quantizeQ6K, []int{208}, 16},
}

// Quantizes reports whether [Quantize] writes the type.
func (t Type) Quantizes() bool {
	return t == F32 || t == F16 || t == BF16 || quantizers[t].scales != nil
}

func checkQuantize(t Type, dst, values, row int, importance []float32) error {
	if !t.Quantizes() {
		return fmt.Errorf("%s is not written", t)
	}
	if row <= 0 || row%t.Block() != 0 || values%row != 0 {
		return fmt.Errorf("%d values of rows of %d, in blocks of %d", values, row, t.Block())
	}
	if err := checkSizes(t, values, dst); err != nil {
		return err
	}
	if importance == nil {
		return nil
	}
	if len(importance) != row {
		return fmt.Errorf("the importance of %d columns for rows of %d", len(importance), row)
	}
	for i, v := range importance {
		if !(v >= 0 && v <= math.MaxFloat32) {
			return fmt.Errorf("importance %v of column %d", v, i)
		}
	}
	return nil
}

// check finds a block with a scale that is infinite or no number.
func (q quantizer) check(t Type, dst []byte, base int) error {
	for i, size := 0, t.Size(); (i+1)*size <= len(dst); i++ {
		for _, at := range q.scales {
			if binary.LittleEndian.Uint16(dst[i*size+at:])&0x7c00 == 0x7c00 {
				return fmt.Errorf("ggml: quantize: values [%d, %d) do not fit into a block of %s: its scale does not fit in F16", base+i*t.Block(), base+(i+1)*t.Block(), t)
			}
		}
	}
	return nil
}

// unimportant is the weight in place of importance 0 where all columns of a part have that: a millionth of what counts most.
const unimportant = 0x1p-20

// balance returns importance multiplied by the power of two that makes its largest 1 to 2, so that products of it neither vanish nor
// overflow, with a small weight in place of the parts that are all 0.
func balance(importance []float32, part int) []float32 {
	w := make([]float32, len(importance))
	var most float32
	for _, v := range importance {
		most = max(most, v)
	}
	exp := 1
	if most > 0 {
		_, exp = math.Frexp(float64(most))
	}
	for i, v := range importance {
		w[i] = float32(math.Ldexp(float64(v), 1-exp))
	}
	for ; len(importance) >= part; importance = importance[part:] {
		w := w[len(w)-len(importance):][:part]
		if sum(w) == 0 {
			for j := range w {
				w[j] = unimportant
			}
		}
	}
	return w
}
