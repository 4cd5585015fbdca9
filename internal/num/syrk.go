package num

// SyrkTN adds the weighted second moment of the rows of x [m, k] (leading dimension ldx) to c [k, k]:
//
//	c[a,b] += Σ_{i<m} scale[i] * x[i,a] * x[i,b]
//
// scale nil means all ones. Products are summed in f32 over blocks of rows, and the blocks in f64. Both halves of c get
// the same values, so that a symmetric c stays symmetric bit for bit.
// Scratch memory is that of widePass.
func SyrkTN(c []float64, x []float32, ldx int, scale []float32, m, k int, par Par) {
	SyrkLower(c, x, ldx, scale, m, k, par)
	MirrorLower(c, k, par)
}

// SyrkLower is SyrkTN for the elements on and below the diagonal; the others are left alone. Who adds many times mirrors
// once, by [MirrorLower].
func SyrkLower(c []float64, x []float32, ldx int, scale []float32, m, k int, par Par) {
	checkDims("SyrkLower", m, k)
	checkMat("SyrkLower", "c", len(c), k, k, k)
	checkMat("SyrkLower", "x", len(x), m, k, ldx)
	if scale != nil {
		checkLen("SyrkLower", "scale", len(scale), m)
	}
	s := pool32.Get().(*scratch[float32])
	defer pool32.Put(s)
	rows := split(max(k, 1), wideRows, 8*kernel32.mr)
	for r := 0; r < m; r += wideDepth {
		n := min(wideDepth, m-r)
		from := operand[float32]{v: x[r*ldx:], ld: ldx, trans: true}
		for i := 0; i < k; i += rows {
			a := from.from(i)
			if scale != nil {
				a.scale = scale[r : r+n]
			}
			p := newPass(kernel32, nil, 0, a, from, min(rows, k-i), min(i+rows, k), n, 1, 0)
			p.region, p.first = lower, i
			w := &widePass{gemmPass: p, c: c[i*k:], ldc: k}
			w.run(s, par)
		}
	}
}
