package num

// Weights is a read-only matrix of weights in the type it is stored in, row i at [i*LD]. Exactly one of F32 and U16 is
// set; U16 holds bfloat16 where BF16 is set and IEEE half precision otherwise. Kernels widen it tile by tile, so that a
// 16-bit matrix never exists in f32 as a whole.
type Weights struct {
	F32  []float32
	U16  []uint16
	BF16 bool
	LD   int
}

// F32Weights returns w as a matrix with leading dimension ld.
func F32Weights(w []float32, ld int) Weights { return Weights{F32: w, LD: ld} }

// Len returns the number of elements behind the matrix.
func (w Weights) Len() int {
	if w.U16 != nil {
		return len(w.U16)
	}
	return len(w.F32)
}

// operand returns w as an operand whose rows run along the summed dimension.
func (w Weights) operand() operand[float32] {
	if w.U16 != nil {
		return operand[float32]{half: w.U16, bf16: w.BF16, ld: w.LD}
	}
	return operand[float32]{v: w.F32, ld: w.LD}
}
