package gptq

import (
	"encoding/binary"

	"modelpress/formats"
)

// Encode returns the tensors of [Format.Tensors] with their data. Codes and zero points may be of fewer bits than the format has, and groups
// wider than those of the format if these divide them. It returns a [formats.Inexact] where the format cannot hold the weight as it is:
// scales that F16 does not hold, zero points in a symmetric format or of 0 in version 1, columns in an order of their own without ActOrder.
//
// AutoGPTQ knows version 1 alone. GPTQModel loads asymmetric weights of version 1 only where it wrote them itself: write version 2 for those.
//
// Peak memory: that of the result.
func (f Format) Encode(module string, m *formats.Affine) ([]formats.Tensor, error) {
	name := module + suffixWeight
	if err := f.Check(int64(m.Out), int64(m.In)); err != nil {
		return nil, formats.Errorf("", name, "%w", err)
	}
	e := encoder{Format: f, m: m, name: name, groups: int(f.groups(int64(m.In)))}
	if err := e.check(); err != nil {
		return nil, err
	}
	infos := f.Tensors(module, int64(m.Out), int64(m.In))
	return []formats.Tensor{
		{TensorInfo: infos[0], Data: e.gIdx()},
		{TensorInfo: infos[1], Data: e.codes()},
		{TensorInfo: infos[2], Data: e.zeros()},
		{TensorInfo: infos[3], Data: e.scales()},
	}, nil
}

// encoder writes one weight.
type encoder struct {
	Format
	m      *formats.Affine
	name   string // of the weight
	groups int    // of a row, as they are written
}

// group returns the group of the weight that group k of a row as written belongs to.
func (e *encoder) group(k int) int { return k * e.m.Groups() / e.groups }

// check looks for what the format has no place for.
func (e *encoder) check() error {
	m := e.m
	if err := m.Fit(e.name, formats.Fit{
		Bits: e.Bits, Group: e.Group, Scale: formats.F16, Symmetric: e.Symmetric, Ordered: e.ActOrder,
	}); err != nil {
		return err
	}
	if m.GIdx != nil {
		if g := unbalanced(m.GIdx, m.Groups()); g >= 0 {
			return formats.Errorf("", e.name, "group %d does not have the %d columns of a group", g, m.In/m.Groups())
		}
	}
	lowest := 0
	for _, z := range m.Zeros {
		if z == -1<<(e.Bits-1) {
			lowest++
		}
	}
	if lowest > 0 && !e.V2 {
		return &formats.Inexact{
			Tensor: e.name, Count: lowest, Cause: "zero points are the lowest code, which version 1 of gptq cannot store; version 2 can",
		}
	}
	return nil
}

// unbalanced returns the first group that does not have the same number of columns as the others, -1 if all have.
func unbalanced(gIdx []int32, groups int) int {
	count := make([]int, groups)
	for _, g := range gIdx {
		count[g]++
	}
	for g, n := range count {
		if n*groups != len(gIdx) {
			return g
		}
	}
	return -1
}

// scales returns the data of scales: F16 [groups, out].
func (e *encoder) scales() []byte {
	m, g := e.m, e.m.Groups()
	b := make([]byte, 2*e.groups*m.Out)
	for k := range e.groups {
		src := e.group(k)
		for o := range m.Out {
			binary.LittleEndian.PutUint16(b[2*(k*m.Out+o):], formats.F16FromF32(m.Scales[o*g+src]))
		}
	}
	return b
}

// gIdx returns the data of g_idx.
func (e *encoder) gIdx() []byte {
	b := make([]byte, 0, 4*e.m.In)
	width := e.m.In / e.groups
	for i := range e.m.In {
		k := uint32(i / width)
		if e.m.GIdx != nil && e.groups == e.m.Groups() {
			k = uint32(e.m.GIdx[i])
		}
		b = binary.LittleEndian.AppendUint32(b, k)
	}
	return b
}

// tile is how many rows are packed at a time: few enough that the parts of them which are read together stay in the first-level cache.
const tile = 64

// codes returns the data of qweight.
func (e *encoder) codes() []byte {
	m, u := e.m, unitOf(e.Bits)
	bias := uint8(1) << (e.Bits - 1)
	src := formats.Int8Bytes(m.Codes)
	b := make([]byte, m.In/32*e.Bits*m.Out*4)
	var w [3]uint32
	for first := 0; first < m.Out; first += tile {
		for at := 0; at < m.In; at += line {
			for o := first; o < min(first+tile, m.Out); o++ {
				for i := at; i < min(at+line, m.In); i += u.codes {
					u.pack(w[:], src[o*m.In+i:], bias)
					row := i / u.codes * u.words
					for k := range u.words {
						binary.LittleEndian.PutUint32(b[4*((row+k)*m.Out+o):], w[k])
					}
				}
			}
		}
	}
	return b
}

// zeros returns the data of qzeros.
func (e *encoder) zeros() []byte {
	m, u, g := e.m, unitOf(e.Bits), e.m.Groups()
	bias := uint8(1) << (e.Bits - 1)
	if !e.V2 {
		bias--
	}
	b := make([]byte, 0, e.groups*m.Out/32*e.Bits*4)
	var zeros [block]byte
	var w [3]uint32
	for k := range e.groups {
		src := e.group(k)
		for o := 0; o < m.Out; o += u.codes {
			if m.Zeros != nil {
				for j := range u.codes {
					zeros[j] = uint8(m.Zeros[(o+j)*g+src])
				}
			}
			u.pack(w[:], zeros[:], bias)
			for _, v := range w[:u.words] {
				b = binary.LittleEndian.AppendUint32(b, v)
			}
		}
	}
	return b
}
