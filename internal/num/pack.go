package num

// operand is a set of vectors along the summed dimension: vector i, value l stands at [i*ld+l], or at [l*ld+i] where
// trans is set. Values are v, or half (bfloat16 or IEEE half) where that is set.
type operand[T float] struct {
	v     []T
	half  []uint16
	bf16  bool
	trans bool
	ld    int
	scale []T // where set, with trans: value l of every vector counts scale[l] times
}

// from returns the operand without its first i vectors.
func (o operand[T]) from(i int) operand[T] {
	switch {
	case o.trans && o.half != nil:
		o.half = o.half[min(i, len(o.half)):]
	case o.trans:
		o.v = o.v[min(i, len(o.v)):]
	case o.half != nil:
		o.half = o.half[min(i*o.ld, len(o.half)):]
	default:
		o.v = o.v[min(i*o.ld, len(o.v)):]
	}
	return o
}

// pack copies values [k0, k0+kc) of the first n vectors into panels of w vectors each, value by value:
//
//	dst[(i/w)*w*kc + l*w + i%w] = o(i, k0+l)
//
// What stands for vectors past n in the last panel is unspecified: it only reaches outputs that nobody reads. dst needs
// slack elements after the last panel. p may do parts of the work.
func pack[T float](dst []T, o *operand[T], n, k0, kc, w int, p packer[T]) {
	if kc == 0 {
		return
	}
	if o.trans {
		packColumns(dst, o, n, k0, kc, w, p)
	} else {
		for i := 0; i < n; i += w {
			packRows(dst[i*kc:], o, i, min(w, n-i), k0, kc, w, p)
		}
	}
}

// packColumns packs vectors that stand side by side, some values of all of them at a time: memory is read in long runs.
func packColumns[T float](dst []T, o *operand[T], n, k0, kc, w int, p packer[T]) {
	const run = 8
	for l := 0; l < kc; l += run {
		values := min(run, kc-l)
		for i := 0; i < n; i += w {
			panel, rows := dst[i*kc+l*w:], min(w, n-i)
			if o.half != nil {
				widenColumns(panel, o, i, rows, k0+l, values, w)
				continue
			}
			if p != nil && p.columns(panel, o, i, rows, k0+l, values, w) {
				continue
			}
			for v := range values {
				row := panel[v*w : v*w+rows]
				copy(row, o.v[(k0+l+v)*o.ld+i:])
				for r := 0; o.scale != nil && r < rows; r++ {
					row[r] *= o.scale[k0+l+v]
				}
			}
		}
	}
}

// widenColumns packs kc values of rows 16-bit vectors that stand side by side.
func widenColumns[T float](panel []T, o *operand[T], i, rows, k0, kc, w int) {
	for l := range kc {
		row, src := panel[l*w:][:rows], o.half[(k0+l)*o.ld+i:][:rows]
		for r, h := range src {
			if o.bf16 {
				row[r] = T(bf16ToF32(h))
			} else {
				row[r] = T(f16ToF32(h))
			}
		}
	}
}

// packRows packs a panel of vectors that stand one after the other.
func packRows[T float](panel []T, o *operand[T], i, rows, k0, kc, w int, p packer[T]) {
	done := 0
	if p != nil {
		done = p.rows(panel, o, i, rows, k0, kc, w)
	}
	for r := 0; r < rows && done < kc; r++ {
		at := (i+r)*o.ld + k0
		switch {
		case o.half == nil:
			for l := done; l < kc; l++ {
				panel[l*w+r] = o.v[at+l]
			}
		case o.bf16:
			for l := done; l < kc; l++ {
				panel[l*w+r] = T(bf16ToF32(o.half[at+l]))
			}
		default:
			for l := done; l < kc; l++ {
				panel[l*w+r] = T(f16ToF32(o.half[at+l]))
			}
		}
	}
}
