package distill

import (
	"fmt"
	"math"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// Part is what a parameter belongs to.
type Part uint8

// The parts of a model, in the order of the forward pass but for the norms of a layer's heads.
const (
	Embedding  Part = iota // [V, D]; the output head too where the two are tied
	Positions              // [MaxPosition, D]
	AttnNorm               // gain and bias [D]
	QNorm                  // gain [K]
	KNorm                  // gain [K]
	FFNNorm                // gain and bias [D]
	Projection             // of a role: [Out, In] and bias [Out]
	FinalNorm              // gain and bias [D]
	Head                   // [V, D], where it is not tied
	Adapter                // a factor of [LoRA], or whatever else is trained beside a model
)

// The layers of parameters that belong to no block.
const (
	EmbedLayer = -1 // embedding and positions
	HeadLayer  = -2 // final norm and head
)

// Param is one trainable tensor, a matrix [Rows, Cols] or a vector of Rows values. Its master copy is in f32 (Values) or in
// bfloat16 (Half); the other of the two is nil.
type Param struct {
	Name  string
	Part  Part
	Role  arch.Role // of a Projection
	Bias  bool      // the bias of a projection or a norm
	Layer int       // its block, [EmbedLayer] or [HeadLayer]

	Rows, Cols int  // Cols is 1 for vectors
	Matrix     bool // a matrix, which weight decay applies to

	// They must not be looked at, or changed, while the parameter is trained on a device: Read and Write then know where it is.
	Values []float32
	Half   []uint16

	home *residence // nil for on the host
}

// Len returns the number of values.
func (q *Param) Len() int { return q.Rows * q.Cols }

// DType returns the type of the master copy, F32 or BF16.
func (q *Param) DType() formats.DType {
	if q.Half != nil {
		return formats.BF16
	}
	return formats.F32
}

// Info describes the parameter as a tensor.
func (q *Param) Info() formats.TensorInfo {
	shape := []int64{int64(q.Rows)}
	if q.Matrix {
		shape = append(shape, int64(q.Cols))
	}
	return formats.TensorInfo{Name: q.Name, DType: q.DType(), Shape: shape}
}

// Read copies the values from index from on to dst, which must not reach past the end.
func (q *Param) Read(dst []float32, from int) {
	q.check(len(dst), from)
	q.pull(false)
	q.copyOut(dst, from)
}

// copyOut copies what the host has.
func (q *Param) copyOut(dst []float32, from int) {
	if q.Half == nil {
		copy(dst, q.Values[from:])
		return
	}
	for i, h := range q.Half[from:][:len(dst)] {
		dst[i] = formats.BF16ToF32(h)
	}
}

// Write replaces the values from index from on by src; a bfloat16 copy takes the nearest values, ties to even.
func (q *Param) Write(src []float32, from int) {
	q.check(len(src), from)
	q.pull(true)
	q.copyIn(src, from)
	q.push()
}

// copyIn replaces what the host has.
func (q *Param) copyIn(src []float32, from int) {
	if q.Half == nil {
		copy(q.Values[from:], src)
		return
	}
	for i, v := range src {
		q.Half[from+i] = formats.BF16FromF32(v)
	}
}

func (q *Param) check(n, from int) {
	if from < 0 || n > q.Len()-from {
		panic(fmt.Sprintf("distill: values [%d, %d+%d) of the %d of %s", from, from, n, q.Len(), q.Name))
	}
}

// gather copies n values that lie stride apart, the first at index from.
func (q *Param) gather(dst []float32, from, stride int) {
	q.pull(false)
	if q.Half == nil {
		for i := range dst {
			dst[i] = q.Values[from+i*stride]
		}
		return
	}
	for i := range dst {
		dst[i] = formats.BF16ToF32(q.Half[from+i*stride])
	}
}

// fits reports whether Len does not overflow.
func (q *Param) fits() bool {
	return q.Rows > 0 && q.Cols > 0 && q.Rows <= math.MaxInt/8/q.Cols
}

// alloc takes the memory of the master copy.
func (q *Param) alloc(half bool) {
	if half {
		q.Half = make([]uint16, q.Len())
		return
	}
	q.Values = make([]float32, q.Len())
}
