package packed

import "modelpress/formats"

// IntQuantized is a setting of the format "int-quantized": codes of 8 bits as they are, one scale for each output row. It is a
// [formats.AffineFormat]. Runtimes quantize activations to 8 bits, token by token, as in the preset W8A8; some of them load symmetric
// weights alone.
type IntQuantized struct {
	Symmetric bool
	Scales    formats.DType // the type of the model: BF16, F16 or F32
}

func (q IntQuantized) scheme8() Scheme { return Scheme{Bits: 8, GroupSize: -1, Symmetric: q.Symmetric} }

// Check implements [formats.AffineFormat].
func (q IntQuantized) Check(out, in int64) error {
	if err := checkScales(q.Scales); err != nil {
		return err
	}
	return q.scheme8().Check(out, in)
}

// Tensors lists what is stored, sorted by name: the codes I8 [out, in] as weight, the scales [out, 1], and where the weight is not
// symmetric the zero points I8 [out, 1].
func (q IntQuantized) Tensors(module string, out, in int64) []formats.TensorInfo {
	mustFit(q.Check(out, in))
	list := []formats.TensorInfo{
		{Name: module + suffixWeight, DType: formats.I8, Shape: []int64{out, in}},
		{Name: module + suffixScale, DType: q.Scales, Shape: []int64{out, 1}},
	}
	if !q.Symmetric {
		list = append(list, formats.TensorInfo{Name: module + suffixZero, DType: formats.I8, Shape: []int64{out, 1}})
	}
	return list
}

// Encode returns the tensors of Tensors with their data. What the format cannot hold without a change of a value is a
// [formats.Inexact]. Memory beside m: the codes, and three times the scales.
func (q IntQuantized) Encode(module string, m *formats.Affine) ([]formats.Tensor, error) {
	if err := q.Check(int64(m.Out), int64(m.In)); err != nil {
		return nil, formats.Errorf("", module+suffixWeight, "%w", err)
	}
	l, err := fit(module, m, q.scheme8(), q.Scales, false)
	if err != nil {
		return nil, err
	}
	data := [][]byte{signedBytes(m.Codes), l.scales}
	if !q.Symmetric {
		data = append(data, signedBytes(l.zeros))
	}
	return fill(q.Tensors(module, int64(m.Out), int64(m.In)), data), nil
}

func signedBytes(q []int8) []byte {
	b := make([]byte, len(q))
	for i, v := range q {
		b[i] = byte(v)
	}
	return b
}
