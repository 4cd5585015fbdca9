//go:build amd64 && !noasm

package num

import "unsafe"

// packer32 packs float32 and 16-bit operands with the kernels of transpose_amd64.s.
type packer32 struct{}

func (packer32) rows(panel []float32, o *operand[float32], i, rows, k0, kc, w int) int {
	n := kc &^ 7
	if n == 0 {
		return 0
	}
	_ = panel[(n-1)*w+(rows-1)/8*8+7]
	var ptr [8]unsafe.Pointer
	for lane := (rows - 1) / 8 * 8; lane >= 0; lane -= 8 { // downwards: a group may spill into the next value's first lanes
		dst := unsafe.Pointer(&panel[lane])
		for r := range ptr {
			at := (i+min(lane+r, rows-1))*o.ld + k0
			if o.half != nil {
				ptr[r] = unsafe.Pointer(&o.half[at : at+n][0])
			} else {
				ptr[r] = unsafe.Pointer(&o.v[at : at+n][0])
			}
		}
		switch {
		case o.half == nil:
			transpose8F32(dst, w, &ptr, n)
		case o.bf16:
			transpose8BF16(dst, w, &ptr, n)
		default:
			transpose8F16(dst, w, &ptr, n)
		}
	}
	return n
}

func (packer32) columns(panel []float32, o *operand[float32], i, rows, k0, kc, w int) bool {
	dst, src, ok := columnEnds(panel, o, i, rows, k0, kc, w)
	switch {
	case !ok:
	case o.scale == nil:
		copyRows(dst, w*4, src, o.ld*4, rows*4, kc)
	default:
		scaleRows(dst, w*4, src, o.ld*4, rows*4, kc, &o.scale[k0 : k0+kc][0])
	}
	return ok
}

// packer512 is packer32 with the wider transposes of AVX-512.
type packer512 struct{ packer32 }

func (packer512) rows(panel []float32, o *operand[float32], i, rows, k0, kc, w int) int {
	n := kc &^ 15
	if n == 0 {
		return 0
	}
	_ = panel[(n-1)*w+(rows-1)/16*16+15]
	var ptr [16]unsafe.Pointer
	for lane := (rows - 1) / 16 * 16; lane >= 0; lane -= 16 { // downwards, as above
		dst := unsafe.Pointer(&panel[lane])
		for r := range ptr {
			at := (i+min(lane+r, rows-1))*o.ld + k0
			if o.half != nil {
				ptr[r] = unsafe.Pointer(&o.half[at : at+n][0])
			} else {
				ptr[r] = unsafe.Pointer(&o.v[at : at+n][0])
			}
		}
		switch {
		case o.half == nil:
			transpose16F32(dst, w, &ptr, n)
		case o.bf16:
			transpose16BF16(dst, w, &ptr, n)
		default:
			transpose16F16(dst, w, &ptr, n)
		}
	}
	return n
}

// packer64 packs float64 operands.
type packer64 struct{}

func (packer64) rows(panel []float64, o *operand[float64], i, rows, k0, kc, w int) int {
	n := kc &^ 3
	if n == 0 {
		return 0
	}
	_ = panel[(n-1)*w+(rows-1)/4*4+3]
	var ptr [8]unsafe.Pointer
	for lane := (rows - 1) / 4 * 4; lane >= 0; lane -= 4 {
		for r := range 4 {
			at := (i+min(lane+r, rows-1))*o.ld + k0
			ptr[r] = unsafe.Pointer(&o.v[at : at+n][0])
		}
		transpose4F64(unsafe.Pointer(&panel[lane]), w, &ptr, n)
	}
	return n
}

func (packer64) columns(panel []float64, o *operand[float64], i, rows, k0, kc, w int) bool {
	dst, src, ok := columnEnds(panel, o, i, rows, k0, kc, w)
	if ok = ok && o.scale == nil; ok {
		copyRows(dst, w*8, src, o.ld*8, rows*8, kc)
	}
	return ok
}

// columnEnds returns where to copy kc pieces of rows vectors that stand side by side, where that is a multiple of 8
// bytes, once it has checked that they lie within their slices.
func columnEnds[T float](panel []T, o *operand[T], i, rows, k0, kc, w int) (dst, src unsafe.Pointer, ok bool) {
	v := o.v[k0*o.ld+i:]
	_, _ = v[(kc-1)*o.ld+rows-1], panel[(kc-1)*w+rows-1]
	return unsafe.Pointer(&panel[0]), unsafe.Pointer(&v[0]), rows*int(unsafe.Sizeof(v[0]))%8 == 0
}
