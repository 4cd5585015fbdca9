package ggml

import (
	"encoding/binary"
	"fmt"
	"math"

	"modelpress/formats"
)

// gridType is a type whose blocks of 32 codes lie on one grid each: w = scale*code with codes from -half to half-1, or
// w = scale*code + offset with codes from 0 to 2·half-1.
type gridType struct {
	bits   int
	offset bool // blocks have an offset
}

func (t Type) grid() (g gridType, ok bool) {
	switch t {
	case Q4_0:
		return gridType{4, false}, true
	case Q4_1:
		return gridType{4, true}, true
	case Q5_0:
		return gridType{5, false}, true
	case Q5_1:
		return gridType{5, true}, true
	case Q8_0:
		return gridType{8, false}, true
	}
	return gridType{}, false
}

// Grid reports whether the codes of a type can be read and written as [formats.Affine]: Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0. In the K types scale and
// offset are products of their own.
func Grid(t Type) bool {
	_, ok := t.grid()
	return ok
}

// Exact returns the type that holds codes on integer grids without a change of a value: of so many bits, in groups of so many columns (-1: whole
// rows) of in, with zero points or without. A group has to be whole blocks of 32. It is the smallest type that does so for scales and, where there
// are zero points, products of scale and zero point that are numbers of F16: [EncodeAffine] says whether they are.
func Exact(bits, group int, symmetric bool, in int) (Type, bool) {
	if group == -1 {
		group = in
	}
	if in <= 0 || group <= 0 || group%32 != 0 || in%group != 0 {
		return 0, false
	}
	switch {
	case bits < 2 || bits > 8:
		return 0, false
	case bits <= 4 && symmetric:
		return Q4_0, true
	case bits <= 4:
		return Q4_1, true
	case bits == 5 && symmetric:
		return Q5_0, true
	case bits == 5:
		return Q5_1, true
	case symmetric:
		return Q8_0, true
	}
	return 0, false
}

// EncodeAffine stores a weight [Out, In] in blocks of a type for which [Grid] is true, and fails with [*formats.Inexact] where that
// would change a value: a scale or, with zero points, an offset that is no number of F16, a code that is out of range, groups that are no
// whole blocks, columns in an order of their own. What [Dequantize] makes of the bytes compares equal to what m.Dequantize gives; a zero can have
// another sign.
//
// Memory: the bytes returned.
func EncodeAffine(t Type, m *formats.Affine) ([]byte, error) {
	g, ok := t.grid()
	if !ok {
		return nil, fmt.Errorf("ggml: encode: the codes of %s lie on no grid", t)
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("ggml: encode: %w", err)
	}
	group := m.Group
	if group == -1 {
		group = m.In
	}
	switch {
	case group%32 != 0:
		return nil, &formats.Inexact{Count: m.Out * m.Groups(), Cause: fmt.Sprintf("groups of %d columns where %s has blocks of 32", group, t)}
	case ordered(m, group):
		return nil, &formats.Inexact{Count: m.In, Cause: fmt.Sprintf("columns in an order of their own, which %s does not have", t)}
	}
	n, err := t.RowBytes(int64(m.Out) * int64(m.In))
	if err != nil {
		return nil, fmt.Errorf("ggml: encode: %w", err)
	}
	e := gridEncoder{gridType: g, dst: make([]byte, 0, n), size: t.Size()}
	for i, scale := range m.Scales {
		zero := int8(0)
		if m.Zeros != nil {
			zero = m.Zeros[i]
		}
		e.group(m.Codes[i*group:(i+1)*group], scale, zero)
	}
	if e.bad > 0 {
		return nil, &formats.Inexact{Count: e.bad, Cause: fmt.Sprintf("scales, offsets or codes that %s does not hold exactly", t)}
	}
	return e.dst, nil
}

// ordered reports whether columns do not belong to groups in their order.
func ordered(m *formats.Affine, group int) bool {
	for i, k := range m.GIdx {
		if int(k) != i/group {
			return true
		}
	}
	return false
}

// gridEncoder appends blocks and counts what does not fit.
type gridEncoder struct {
	gridType
	dst  []byte
	size int
	bad  int
	head [4]byte
}

// group appends the codes of a group, w = (code - zero)*scale, whole blocks.
func (e *gridEncoder) group(codes []int8, scale float32, zero int8) {
	half := 1 << (e.bits - 1)
	shift := half - int(zero) // to stored codes of Q4_0 and Q5_0
	head := binary.LittleEndian.AppendUint16(e.head[:0], e.f16(scale))
	if e.offset {
		// The product is exact: the scale has a mantissa of 11 bits if it is a number of F16, the other factor of five.
		low := -half // the least code that can be, stored as 0
		head = binary.LittleEndian.AppendUint16(head, e.f16(float32(low-int(zero))*scale))
		shift = half
	}
	for ; len(codes) > 0; codes = codes[32:] {
		var stored [32]byte
		for j, q := range codes[:32] {
			u := int(q) + shift
			if u < 0 || u >= 2*half {
				e.bad++
			}
			stored[j] = byte(u)
		}
		e.append(head, &stored)
	}
}

func (e *gridEncoder) append(head []byte, stored *[32]byte) {
	at := len(e.dst)
	e.dst = append(e.dst, head...)
	e.dst = e.dst[:at+e.size]
	b := e.dst[at+len(head):]
	switch e.bits {
	case 4:
		putFour((*[16]byte)(b), stored)
	case 5:
		putFive((*[20]byte)(b), stored)
	case 8:
		for j, u := range stored {
			b[j] = u - 128
		}
	}
}

// f16 counts a number that is none of F16.
func (e *gridEncoder) f16(v float32) uint16 {
	h := formats.F16FromF32(v)
	if formats.F16ToF32(h) != v || math.IsInf(float64(v), 0) {
		e.bad++
	}
	return h
}
