package main

// adamW writes the kernel of an optimizer's step. Its factors stand in memory in the order of the type adamFactors; every product is
// rounded, as in the plain body.
func adamW(w *writer, v isa) {
	w.fn("adamW"+v.name, "(p, g, m, v []float32, f *adamFactors)", "a step of AdamW, as adamFactors.step has it", 104)
	for i, r := range []string{"DI", "SI", "DX", "R10"} {
		w.op("MOVQ %s_base+%d(FP), %s", "pgmv"[i:i+1], 24*i, r)
	}
	w.op("MOVQ p_len+8(FP), CX")
	w.op("MOVQ f+96(FP), R11")
	const scale, keep, old1, new1, old2, new2, rate, root, eps = 6, 7, 8, 9, 10, 11, 12, 13, 14
	for i := range 9 {
		w.op("VBROADCASTSS %d(R11), %s", 4*i, v.r(6+i))
	}
	mul := func(a, b, dst int) { w.op("VMULPS %s, %s, %s", v.r(a), v.r(b), v.r(dst)) }
	add := func(a, b, dst int) { w.op("VADDPS %s, %s, %s", v.r(a), v.r(b), v.r(dst)) }
	l := &loop{w: w, isa: v}
	l.run(func(u int) {
		l.load("SI", u, v.r(0))
		mul(scale, 0, 0) // s
		l.load("DX", u, v.r(1))
		mul(old1, 1, 1)
		mul(new1, 0, 2)
		add(2, 1, 1) // the mean
		l.store(v.r(1), "DX", u)
		mul(0, 0, 0)
		l.load("R10", u, v.r(2))
		mul(old2, 2, 2)
		mul(new2, 0, 0)
		add(0, 2, 2) // the mean square
		l.store(v.r(2), "R10", u)
		w.op("VSQRTPS %s, %s", v.r(2), v.r(2))
		mul(root, 2, 2)
		add(eps, 2, 2)
		mul(rate, 1, 1)
		w.op("VDIVPS %s, %s, %s", v.r(2), v.r(1), v.r(1))
		l.load("DI", u, v.r(0))
		mul(keep, 0, 0)
		w.op("VSUBPS %s, %s, %s", v.r(1), v.r(0), v.r(0))
		l.store(v.r(0), "DI", u)
	})
	l.end()
}
