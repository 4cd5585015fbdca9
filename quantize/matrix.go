package quantize

import (
	"fmt"

	"modelpress/formats"
)

// Matrix is a quantized weight [Out, In].
type Matrix struct {
	Out, In int
	Scheme
	Store  formats.DType // type that the scales are stored in, and dense weights in the checkpoint around it
	Codes  []int8        // [Out, In], signed, in [-2^(b-1), 2^(b-1)-1]
	Scales []float32     // [Out, Groups], positive, exactly representable in Store
	Zeros  []int8        // [Out, Groups], signed; nil where the scheme is symmetric
}

func newMatrix(out, in int, s Scheme, store formats.DType) *Matrix {
	g := s.Groups(in)
	m := &Matrix{Out: out, In: in, Scheme: s, Store: store, Codes: make([]int8, out*in), Scales: make([]float32, out*g)}
	if !s.Symmetric {
		m.Zeros = make([]int8, out*g)
	}
	return m
}

// setGrid stores the grid of one group.
func (m *Matrix) setGrid(row, group int, g grid) {
	i := row*m.Groups(m.In) + group
	m.Scales[i] = g.Scale
	if m.Zeros != nil {
		m.Zeros[i] = int8(g.zero)
	}
}

// grid returns the grid of one group.
func (m *Matrix) grid(row, group int) grid {
	i := row*m.Groups(m.In) + group
	z := 0
	if m.Zeros != nil {
		z = int(m.Zeros[i])
	}
	lo, hi := m.limits()
	return newGrid(m.Scales[i], z, lo, hi)
}

// Dequantize fills dst [Out, In] with (code - zero) * scale, rounded to the type of the scales. This is what readers
// compute; at 8 bits the rounding of bf16 is as large as the quantization itself.
// par runs groups of rows.
func (m *Matrix) Dequantize(dst []float32, par Par) {
	if len(dst) != m.Out*m.In {
		panic(fmt.Sprintf("quantize: %d values for [%d, %d]", len(dst), m.Out, m.In))
	}
	round := rounder(m.Store)
	groups, width := m.Groups(m.In), m.width(m.In)
	forRows(m.Out, par, func(lo, hi int) {
		for k := lo * groups; k < hi*groups; k++ {
			at := k/groups*m.In + k%groups*width
			z := 0
			if m.Zeros != nil {
				z = int(m.Zeros[k])
			}
			for i, q := range m.Codes[at : at+width] {
				dst[at+i] = round(float32(int(q)-z) * m.Scales[k])
			}
		}
	})
}

// rounder returns the function that rounds to a stored type and back.
func rounder(dt formats.DType) func(float32) float32 {
	switch dt {
	case formats.BF16:
		return func(f float32) float32 { return formats.BF16ToF32(formats.BF16FromF32(f)) }
	case formats.F16:
		return func(f float32) float32 { return formats.F16ToF32(formats.F16FromF32(f)) }
	}
	return func(f float32) float32 { return f }
}
