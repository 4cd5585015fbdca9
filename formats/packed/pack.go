package packed

import (
	"encoding/binary"

	"modelpress/formats"
)

// PackQuantized is a setting of the format "pack-quantized": codes of 4 or 8 bits in 32-bit words. It is a [formats.AffineFormat].
// Activations are not quantized, as in the presets W4A16, W4A16_ASYM and W8A16.
type PackQuantized struct {
	Scheme
	Scales   formats.DType // the type of the model: BF16, F16 or F32
	ActOrder bool          // columns belong to groups in an order of their own: weight_g_idx, actorder "group"
}

// Check implements [formats.AffineFormat].
func (p PackQuantized) Check(out, in int64) error {
	if err := checkScales(p.Scales); err != nil {
		return err
	}
	if p.ActOrder && p.GroupSize == -1 {
		return errOrderOfOne
	}
	return p.Scheme.Check(out, in)
}

// Tensors lists what is stored, sorted by name: the order of columns I32 [in] where there is one, the packed codes
// I32 [out, ceil(in*b/32)], the scales [out, groups], the shape I64 [2], and for an asymmetric scheme the zero points
// I32 [ceil(out*b/32), groups].
func (p PackQuantized) Tensors(module string, out, in int64) []formats.TensorInfo {
	mustFit(p.Check(out, in))
	g := p.Groups(in)
	var list []formats.TensorInfo
	add := func(suffix string, dt formats.DType, shape ...int64) {
		list = append(list, formats.TensorInfo{Name: module + suffix, DType: dt, Shape: shape})
	}
	if p.ActOrder {
		add(suffixGIdx, formats.I32, in)
	}
	add(suffixPacked, formats.I32, out, words(in, p.Bits))
	add(suffixScale, p.Scales, out, g)
	add(suffixShape, formats.I64, 2)
	if !p.Symmetric {
		add(suffixZero, formats.I32, words(out, p.Bits), g)
	}
	return list
}

// Encode returns the tensors of Tensors with their data. The codes of m may have fewer bits, and its groups be a multiple of those
// of the format; whatever else the format cannot hold without a change of a value is a [formats.Inexact]. Memory beside m: up to
// three times the bytes that it returns.
func (p PackQuantized) Encode(module string, m *formats.Affine) ([]formats.Tensor, error) {
	if err := p.Check(int64(m.Out), int64(m.In)); err != nil {
		return nil, formats.Errorf("", module+suffixWeight, "%w", err)
	}
	l, err := fit(module, m, p.Scheme, p.Scales, p.ActOrder)
	if err != nil {
		return nil, err
	}
	var data [][]byte
	if p.ActOrder {
		data = append(data, wordBytes(l.gIdx))
	}
	shape := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(m.Out)), uint64(m.In))
	data = append(data, wordBytes(Pack(m.Codes, m.Out, m.In, p.Bits)), l.scales, shape)
	if !p.Symmetric {
		data = append(data, wordBytes(PackZeros(l.zeros, m.Out, l.groups, p.Bits)))
	}
	return fill(p.Tensors(module, int64(m.Out), int64(m.In)), data), nil
}

// mustFit ends the program of a caller that lays out a weight without having checked it.
func mustFit(err error) {
	if err != nil {
		panic("packed: " + err.Error())
	}
}

// fill joins descriptions and data.
func fill(infos []formats.TensorInfo, data [][]byte) []formats.Tensor {
	list := make([]formats.Tensor, len(infos))
	for i, t := range infos {
		list[i] = formats.Tensor{TensorInfo: t, Data: data[i]}
	}
	return list
}

func wordBytes(w []int32) []byte {
	b := make([]byte, 4*len(w))
	for i, v := range w {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(v))
	}
	return b
}
