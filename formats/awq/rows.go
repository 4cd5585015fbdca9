package awq

import (
	"encoding/binary"

	"modelpress/formats"
)

// rows reads the rows [first, first+n) of the weight: whole words, since first is a multiple of 32 and n is one too or ends at out.
// Peak memory: the result and 1 MiB.
func (m *module) rows(first, n int) (*formats.Affine, error) {
	a := &formats.Affine{
		Out: n, In: m.in, Bits: bits, Group: m.Group, Scale: m.scale,
		Codes: make([]int8, n*m.in), Scales: make([]float32, n*m.groups),
	}
	if err := m.unpack(a.Codes, suffixCodes, m.in, first, n); err != nil {
		return nil, err
	}
	if err := formats.ReadColumnsF32(m.src, where, m.name+suffixScales, a.Scales, first, n); err != nil || m.Symmetric {
		return a, err
	}
	a.Zeros = make([]int8, n*m.groups)
	return a, m.unpack(a.Zeros, suffixZeros, m.groups, first, n)
}

// unpack fills dst, [n, width], with the signed fields of n rows of the weight, from a tensor that has them as its columns.
func (m *module) unpack(dst []int8, suffix string, width, first, n int) error {
	return formats.ReadColumns(m.src, m.name+suffix, first/fields, n/fields, func(i int, b []byte) {
		for c := range n / fields {
			w := binary.LittleEndian.Uint32(b[4*c:])
			part := dst[c*fields*width+i:]
			for k, r := range order {
				part[r*width] = int8(w>>(bits*k)&15) - middle
			}
		}
	})
}
