package gptq

import (
	"encoding/binary"

	"modelpress/formats"
)

// rows reads the rows [first, first+n) of the weight: whole words, since first is a multiple of 32 and n is one too or ends at out.
// Peak memory: the result and 1 MiB.
func (m *module) rows(first, n int) (*formats.Affine, error) {
	a := &formats.Affine{
		Out: n, In: m.in, Bits: m.Bits, Group: m.Group, Scale: m.scale, GIdx: m.gIdx,
		Codes: make([]int8, n*m.in), Scales: make([]float32, n*m.groups),
	}
	if err := m.readCodes(a.Codes, first, n); err != nil {
		return nil, err
	}
	if err := formats.ReadColumnsF32(m.src, where, m.name+suffixScales, a.Scales, first, n); err != nil {
		return nil, err
	}
	if m.Symmetric {
		return a, nil
	}
	a.Zeros = make([]int8, n*m.groups)
	u := unitOf(m.Bits)
	bias := uint8(1) << (m.Bits - 1)
	at := first * m.Bits / 32
	return a, m.eachZeros(at, n*m.Bits/32, func(g int, w []uint32) {
		var fields [block]uint8
		for k := 0; k < len(w); k += u.words {
			u.unpack(&fields, w[k:])
			for j, z := range fields[:u.codes] {
				a.Zeros[(k/u.words*u.codes+j)*m.groups+g] = int8(z - bias)
			}
		}
	})
}

// readCodes fills dst with the signed codes of rows [first, first+n).
func (m *module) readCodes(dst []int8, first, n int) error {
	u := unitOf(m.Bits)
	bias := uint8(1) << (m.Bits - 1)
	held := make([]uint32, u.words*n) // the words of a unit for each row, one row after the other
	var fields [block]uint8
	return formats.ReadColumns(m.src, m.name+suffixCodes, first, n, func(row int, b []byte) {
		k := row % u.words
		for o := range n {
			held[o*u.words+k] = binary.LittleEndian.Uint32(b[4*o:])
		}
		if k < u.words-1 {
			return
		}
		at := row / u.words * u.codes
		for o := range n {
			u.unpack(&fields, held[o*u.words:])
			for j := range u.codes {
				dst[o*m.in+at+j] = int8(fields[j] - bias)
			}
		}
	})
}
