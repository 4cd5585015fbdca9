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
	if err := m.fields(a.Codes, suffixCodes, m.in, first, n); err != nil {
		return nil, err
	}
	if err := formats.ReadColumnsF32(m.src, where, m.name+suffixScales, a.Scales, first, n); err != nil || m.Symmetric {
		return a, err
	}
	a.Zeros = make([]int8, n*m.groups)
	return a, m.fields(a.Zeros, suffixZeros, m.groups, first, n)
}

// line is how many columns of a row are unpacked at a time: as many as lie in one line of the cache.
const line = 64

// fields fills dst, [n, width], with the signed fields of n rows of the weight, from a tensor that has them as its columns.
func (m *module) fields(dst []int8, suffix string, width, first, n int) error {
	codes, words := formats.Int8Bytes(dst), n/fields
	held := make([]uint32, words*line) // the words of some columns of the weight for all rows: [words, line]
	return formats.ReadColumns(m.src, m.name+suffix, first/fields, words, func(i int, b []byte) {
		at := i % line
		for c := range words {
			held[c*line+at] = binary.LittleEndian.Uint32(b[4*c:])
		}
		if at < line-1 && i < width-1 {
			return
		}
		for c := range words {
			for k := 0; k <= at; k += fields {
				unpack(codes[c*fields*width+i-at+k:], width, held[c*line+k:c*line+min(k+fields, at+1)])
			}
		}
	})
}
