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
		var zeros [block]byte
		for k := 0; k < len(w); k += u.words {
			u.unpack(zeros[:], w[k:], bias)
			for j, z := range zeros[:u.codes] {
				a.Zeros[(k/u.words*u.codes+j)*m.groups+g] = int8(z)
			}
		}
	})
}

// line is how many codes of a row are unpacked at a time: as many as lie in one line of the cache.
const line = 64

// readCodes fills dst with the signed codes of rows [first, first+n).
func (m *module) readCodes(dst []int8, first, n int) error {
	u := unitOf(m.Bits)
	bias := uint8(1) << (m.Bits - 1)
	codes := formats.Int8Bytes(dst)
	high, last := line/u.codes*u.words, m.in*m.Bits/32-1
	held := make([]uint32, high*n) // the words of some units for each row: [high, n]
	w := make([]uint32, high)
	return formats.ReadColumns(m.src, m.name+suffixCodes, first, n, func(row int, b []byte) {
		k := row % high
		for o := range n {
			held[k*n+o] = binary.LittleEndian.Uint32(b[4*o:])
		}
		if k < high-1 && row < last {
			return
		}
		at := row / high * line
		for o := range n {
			for i := range k + 1 {
				w[i] = held[i*n+o]
			}
			part := codes[o*m.in+at:]
			for i := 0; i <= k; i += u.words {
				u.unpack(part[i/u.words*u.codes:], w[i:], bias)
			}
		}
	})
}
