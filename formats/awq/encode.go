package awq

import (
	"encoding/binary"

	"modelpress/formats"
)

// Encode returns the tensors of [Format.Tensors] with their data. Codes and zero points may be of fewer bits than four, and groups wider than
// those of the format if these divide them. It returns a [formats.Inexact] where the format cannot hold the weight as it is: more bits,
// scales that F16 does not hold, zero points in a symmetric format, columns that belong to groups in an order of their own.
//
// Peak memory: that of the result.
func (f Format) Encode(module string, m *formats.Affine) ([]formats.Tensor, error) {
	name := module + suffixWeight
	if err := f.Check(int64(m.Out), int64(m.In)); err != nil {
		return nil, formats.Errorf("", name, "%w", err)
	}
	if err := m.Fit(name, formats.Fit{Bits: bits, Group: f.Group, Scale: formats.F16, Symmetric: f.Symmetric}); err != nil {
		return nil, err
	}
	groups := int(f.groups(int64(m.In)))
	infos := f.Tensors(module, int64(m.Out), int64(m.In))
	return []formats.Tensor{
		{TensorInfo: infos[0], Data: encodeCodes(m)},
		{TensorInfo: infos[1], Data: encodeZeros(m, groups)},
		{TensorInfo: infos[2], Data: encodeScales(m, groups)},
	}, nil
}

// encodeCodes returns the data of qweight.
func encodeCodes(m *formats.Affine) []byte {
	codes, width := formats.Int8Bytes(m.Codes), m.Out/fields
	b := make([]byte, 4*width*m.In)
	var words [fields]uint32
	for first := 0; first < m.In; first += line {
		for c := range width {
			for at := first; at < min(first+line, m.In); at += fields {
				w := words[:min(fields, m.In-at)]
				pack(w, codes[c*fields*m.In+at:], m.In)
				for i, v := range w {
					binary.LittleEndian.PutUint32(b[4*((at+i)*width+c):], v)
				}
			}
		}
	}
	return b
}

// encodeZeros returns the data of qzeros.
func encodeZeros(m *formats.Affine, groups int) []byte {
	g := m.Groups()
	b := make([]byte, 0, groups*m.Out/fields*4)
	var zeros [fields]byte
	var word [1]uint32
	for k := range groups {
		for o := 0; o < m.Out; o += fields {
			for j := range zeros {
				if m.Zeros != nil {
					zeros[j] = byte(m.Zeros[(o+j)*g+k*g/groups])
				}
			}
			pack(word[:], zeros[:], 1)
			b = binary.LittleEndian.AppendUint32(b, word[0])
		}
	}
	return b
}

// encodeScales returns the data of scales: F16 [groups, out].
func encodeScales(m *formats.Affine, groups int) []byte {
	g := m.Groups()
	b := make([]byte, 0, groups*m.Out*2)
	for k := range groups {
		for o := range m.Out {
			b = binary.LittleEndian.AppendUint16(b, formats.F16FromF32(m.Scales[o*g+k*g/groups]))
		}
	}
	return b
}
