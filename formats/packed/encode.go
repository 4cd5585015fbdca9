package packed

import (
	"encoding/binary"
	"fmt"

	"modelpress/formats"
)

// Tensor is a tensor with its little-endian data.
type Tensor struct {
	formats.TensorInfo
	Data []byte
}

// Encode returns the tensors of [Tensors] with their data. codes is [out, in]; scales [out, groups] must be values that
// the model's type holds exactly, or they are rounded; zeros [out, groups] is nil for a symmetric scheme.
func Encode(module string, out, in int64, s Scheme, model formats.DType, codes []int8, scales []float32, zeros []int8) ([]Tensor, error) {
	if err := s.Check(out, in); err != nil {
		return nil, formats.Errorf("", module+suffixWeight, "%w", err)
	}
	g := s.Groups(in)
	if int64(len(codes)) != out*in || int64(len(scales)) != out*g || s.Symmetric != (zeros == nil) ||
		!s.Symmetric && int64(len(zeros)) != out*g {
		panic(fmt.Sprintf("packed: %d codes, %d scales, %d zeros for weight [%d, %d] in %d groups",
			len(codes), len(scales), len(zeros), out, in, g))
	}
	infos := Tensors(module, out, in, s, model)
	data := make([]byte, int(out*g)*model.Size())
	if err := formats.Encode(data, scales, model); err != nil {
		return nil, formats.Errorf("", module+suffixScale, "%w", err)
	}
	shape := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(out)), uint64(in))
	list := []Tensor{
		{infos[0], wordBytes(Pack(codes, int(out), int(in), s.Bits))},
		{infos[1], data},
		{infos[2], shape},
	}
	if !s.Symmetric {
		list = append(list, Tensor{infos[3], wordBytes(PackZeros(zeros, int(out), int(g), s.Bits))})
	}
	return list, nil
}

func wordBytes(w []int32) []byte {
	b := make([]byte, 4*len(w))
	for i, v := range w {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(v))
	}
	return b
}
