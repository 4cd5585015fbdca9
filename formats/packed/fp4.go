package packed

import (
	"encoding/binary"
	"math"

	"modelpress/formats"
)

// pack4 stores the codes of a group under a scale: two in each byte, the first in the low half.
func pack4(dst []byte, w []float32, scale float32) {
	for i := range dst {
		dst[i] = formats.E2M1FromF32(w[2*i]/scale) | formats.E2M1FromF32(w[2*i+1]/scale)<<4
	}
}

// mxfp4Data returns the codes of MXFP4 and the exponents of its scales. The exponent is that of the largest magnitude of the group
// less 2, or less 1 where its mantissa is 1.75 or more.
func mxfp4Data(w []float32) [][]byte {
	const group = 32
	codes, scales := make([]byte, len(w)/2), make([]byte, len(w)/group)
	for g := range scales {
		part := w[g*group : (g+1)*group]
		e := (math.Float32bits(largest(part)) + 1<<21) >> 23
		scales[g] = byte(max(e, 2) - 2)
		pack4(codes[g*group/2:(g+1)*group/2], part, formats.E8M0ToF32(scales[g]))
	}
	return [][]byte{codes, scales}
}

const nvGroup = 16 // weights that share a scale of NVFP4

// nvfp4Data returns the global scale of NVFP4, its codes, and the scales of its groups.
func nvfp4Data(w []float32, absmax float32) [][]byte {
	global := float32(formats.E4M3Max * formats.E2M1Max / max(absmax, 0x1p-126))
	if math.IsInf(float64(global), 0) {
		global = 1
	}
	scales := make([]byte, len(w)/nvGroup)
	if g, ok := nvRegrid(w, scales, global); ok {
		global = g
	} else {
		for i := range scales {
			scales[i] = nvScale(largest(w[i*nvGroup:(i+1)*nvGroup]), formats.E2M1Max, global)
		}
	}
	codes := make([]byte, len(w)/2)
	for i, s := range scales {
		pack4(codes[i*nvGroup/2:(i+1)*nvGroup/2], w[i*nvGroup:(i+1)*nvGroup], formats.E4M3ToF32(s)/global)
	}
	return [][]byte{binary.LittleEndian.AppendUint32(nil, math.Float32bits(global)), codes, scales}
}

// nvScale returns the code of the scale that makes a magnitude the value top of E2M1, not 0.
func nvScale(absmax, top, global float32) byte {
	return max(1, formats.E4M3FromF32(global*(absmax/top)))
}

// nvRegrid looks for scales under which NVFP4 stands for every weight, in BF16, to the bit. near is such that the codes and the
// scales of groups under it are those under the global scale that is looked for.
func nvRegrid(w []float32, scales []byte, near float32) (float32, bool) {
	s := newSpan(formats.BF16)
	for i := range scales {
		part := w[i*nvGroup : (i+1)*nvGroup]
		k, ok := nvGroupScale(part, near)
		if !ok {
			return 0, false
		}
		scales[i] = k
		local := formats.E4M3ToF32(k)
		for _, v := range part {
			if !s.meet(formats.E2M1ToF32(formats.E2M1FromF32(v/(local/near)))*local, v) {
				return 0, false
			}
		}
	}
	if s.holds(1/float64(near)) && nvOnGrid(w, scales, near) {
		return near, true
	}
	global := float32(1 / s.middle())
	return global, global > 0 && nvOnGrid(w, scales, global)
}

// nvOnGrid reports whether NVFP4 under these scales stands for every weight.
func nvOnGrid(w []float32, scales []byte, global float32) bool {
	for i, k := range scales {
		scale := formats.E4M3ToF32(k) / global
		for _, v := range w[i*nvGroup : (i+1)*nvGroup] {
			if round(formats.E2M1ToF32(formats.E2M1FromF32(v/scale))*scale, formats.BF16) != v {
				return false
			}
		}
	}
	return true
}

// nvGroupScale returns the scale of a group under which its weights are near values of E2M1, false for none. Of scales that are
// coarse, the subnormal ones, it need not be the one that makes the largest weight a 6.
func nvGroupScale(w []float32, global float32) (byte, bool) {
	absmax := largest(w)
	for top := byte(7); top > 0; top-- {
		k := nvScale(absmax, formats.E2M1ToF32(top), global)
		scale, near := formats.E4M3ToF32(k)/global, true
		for _, v := range w {
			x := float64(v / scale)
			// A global scale that is off by the rounding of one value of BF16, and the rounding of this one.
			near = near && math.Abs(x-float64(formats.E2M1ToF32(formats.E2M1FromF32(float32(x))))) <= math.Abs(x)/64
		}
		if near {
			return k, true
		}
	}
	return 0, false
}
