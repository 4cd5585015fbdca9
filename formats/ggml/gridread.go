package ggml

import (
	"encoding/binary"
	"fmt"
	"math"

	"modelpress/formats"
)

// DecodeAffine reads a weight [out, in] of a type for which [Grid] is true as codes in groups of 32. It fails with [*formats.Inexact] where
// blocks lie on no grid that holds 0: where the offset is no whole multiple of the scale, or one that is out of the range of codes, or where a
// scale is not finite. Scales can be negative, as those of Q4_0 mostly are for half of the blocks. The result dequantizes to values that compare
// equal to those of [Dequantize].
//
// Memory: out·in bytes of codes, five bytes for each block.
func DecodeAffine(t Type, src []byte, out, in int) (*formats.Affine, error) {
	g, ok := t.grid()
	if !ok {
		return nil, fmt.Errorf("ggml: decode: the codes of %s lie on no grid", t)
	}
	if out <= 0 || in <= 0 || in%32 != 0 || in > math.MaxInt/out || len(src)%t.Size() != 0 || len(src)/t.Size() != out*in/32 {
		return nil, fmt.Errorf("ggml: decode: %d bytes for a weight [%d, %d] of %s", len(src), out, in, t)
	}
	blocks := out * in / 32
	m := &formats.Affine{Out: out, In: in, Bits: g.bits, Group: 32, Scale: formats.F16, Codes: make([]int8, out*in), Scales: make([]float32, blocks)}
	if g.offset {
		m.Zeros = make([]int8, blocks)
	}
	bad := 0
	for i := range blocks {
		b := src[i*t.Size():][:t.Size()]
		codes := (*[32]int8)(m.Codes[32*i:])
		scale := f16(b)
		if !finite(scale) {
			bad++
		}
		m.Scales[i] = scale
		if !g.offset {
			g.codes(codes, b[2:])
			continue
		}
		g.codes(codes, b[4:])
		if !g.zero(m, i, codes, f16(b[2:])) {
			bad++
		}
	}
	if bad > 0 {
		return nil, &formats.Inexact{Count: bad, Cause: fmt.Sprintf("blocks of %s with an offset that is no multiple of the scale within the range of codes, or a scale that is not finite", t)}
	}
	return m, nil
}

func finite(v float32) bool { return abs(v) <= math.MaxFloat32 }

// codes reads codes as signed numbers.
func (g gridType) codes(dst *[32]int8, b []byte) {
	switch g.bits {
	case 8:
		for j, u := range (*[32]byte)(b) {
			dst[j] = int8(u)
		}
		return
	case 5:
		high := binary.LittleEndian.Uint32(b)
		for j := range dst {
			dst[j] = int8(high>>j&1<<4) - 16
		}
		b = b[4:]
	case 4:
		for j := range dst {
			dst[j] = -8
		}
	}
	for j, u := range (*[16]byte)(b) {
		dst[j] += int8(u & 15)
		dst[j+16] += int8(u >> 4)
	}
}

// zero sets the zero point of block i from its offset. A block whose scale is 0 has all values equal to the offset: they are one step of that.
func (g gridType) zero(m *formats.Affine, i int, codes *[32]int8, offset float32) bool {
	half := 1 << (g.bits - 1)
	scale := m.Scales[i]
	switch {
	case !finite(offset):
		return false
	case scale == 0 && offset != 0:
		for j := range codes {
			codes[j] = int8(1 - half)
		}
		m.Scales[i], m.Zeros[i] = offset, int8(-half)
		return true
	case scale == 0:
		m.Zeros[i] = int8(-half)
		return true
	}
	z := -offset / scale // exact where it is whole
	if z != float32(math.Trunc(float64(z))) || z < 0 || z >= float32(2*half) || float32(-z*scale) != offset {
		return false
	}
	m.Zeros[i] = int8(int(z) - half)
	return true
}
