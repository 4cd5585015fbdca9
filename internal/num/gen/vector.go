package main

import "fmt"

// vectors writes the kernels on vectors.
func vectors() []byte {
	w := newWriter()
	tables(w)
	for _, v := range []isa{avx2, avx512} {
		dot(w, v)
		sum(w, v)
		maximum(w, v)
		axpy(w, v)
		scale(w, v)
		expKernel(w, v)
		expSum(w, v)
		siluMul(w, v)
		siluMulBack(w, v)
		add(w, v)
		adamW(w, v)
		addWide(w, v)
		addOuter(w, v)
		roundingCost(w, v, false)
		roundingCost(w, v, true)
		roundLanes(w, v)
	}
	walshLevel(w, f32)
	walshLevel(w, f64)
	return w.Bytes()
}

// loop is a pass over vectors, 32 values at a time and then what is left under masks. CX counts values, R8 is the
// offset in bytes.
type loop struct {
	w *writer
	isa
	masked bool // in the masked part
}

// load loads part u of the 32 values at a pointer; values past the end are zeros.
func (l *loop) load(ptr string, u int, dst string) {
	at := fmt.Sprintf("%d(%s)(R8*1)", u*l.bytes, ptr)
	switch {
	case !l.masked:
		l.w.op("VMOVUPS %s, %s", at, dst)
	case l.bytes == 64:
		l.w.op("VMOVUPS.Z %s, K1, %s", at, dst)
	default:
		l.w.op("VMASKMOVPS %s, Y15, %s", at, dst)
	}
}

// store stores part u.
func (l *loop) store(src, ptr string, u int) {
	at := fmt.Sprintf("%d(%s)(R8*1)", u*l.bytes, ptr)
	switch {
	case !l.masked:
		l.w.op("VMOVUPS %s, %s", src, at)
	case l.bytes == 64:
		l.w.op("VMOVUPS %s, K1, %s", src, at)
	default:
		l.w.op("VMASKMOVPS %s, Y15, %s", src, at)
	}
}

// parts is the number of registers that hold 32 values.
func (l *loop) parts() int { return 128 / l.bytes }

// lanes is the number of values of a register.
func (l *loop) lanes() int { return l.bytes / 4 }

// run writes the loop around body, which handles part u. Y15, K1, K2, AX, R8, R9 and CX belong to the loop.
func (l *loop) run(body func(u int)) {
	w := l.w
	w.op("XORQ R8, R8")
	w.at("loop")
	w.op("CMPQ CX, $32")
	w.op("JLT tail")
	for u := range l.parts() {
		body(u)
	}
	w.op("ADDQ $128, R8")
	w.op("SUBQ $32, CX")
	w.op("JMP loop")
	w.at("tail")
	w.op("TESTQ CX, CX")
	w.op("JZ done")
	l.masked = true
	for u := range l.parts() {
		w.op("MOVQ $%d, AX", l.lanes())
		w.op("CMPQ CX, AX")
		w.op("CMOVQLT CX, AX")
		if l.bytes == 64 {
			w.op("MOVL $0xffff, R9")
			w.op("BZHIL AX, R9, R9")
			w.op("KMOVW R9, K1")
		} else {
			w.op("NEGQ AX")
			w.op("LEAQ masks<>+32(SB), R9")
			w.op("VMOVUPS (R9)(AX*4), Y15")
			w.op("NEGQ AX")
		}
		body(u)
		if u < l.parts()-1 {
			w.op("SUBQ AX, CX")
			w.op("JZ done")
		}
	}
	w.at("done")
}

// clearAcc clears the 32 partial sums, in registers 0 and on.
func (l *loop) clearAcc() {
	for u := range l.parts() {
		l.w.op("VXORPS %s, %s, %s", l.r(u), l.r(u), l.r(u))
	}
}

// reduce combines the 32 partial results at distances 16, 8, 4, 2, 1 into X0 by op and returns them.
func (l *loop) reduce(op, result string) {
	w := l.w
	if l.bytes == 64 {
		w.op("%sPS Z1, Z0, Z0", op)
		w.op("VEXTRACTF64X4 $1, Z0, Y1")
	} else {
		w.op("%sPS Y2, Y0, Y0", op)
		w.op("%sPS Y3, Y1, Y1", op)
	}
	w.op("%sPS Y1, Y0, Y0", op)
	w.op("VEXTRACTF128 $1, Y0, X1")
	w.op("%sPS X1, X0, X0", op)
	w.op("VPERMILPS $0x0e, X0, X1")
	w.op("%sPS X1, X0, X0", op)
	w.op("VPERMILPS $0x01, X0, X1")
	w.op("%sSS X1, X0, X0", op)
	w.op("VZEROUPPER")
	w.op("MOVSS X0, %s", result)
	w.op("RET")
}

// end ends a kernel without a result.
func (l *loop) end() {
	l.w.op("VZEROUPPER")
	l.w.op("RET")
}

func dot(w *writer, v isa) {
	w.fn("dot"+v.name, "(a, b []float32) float32", "Σ a[i]*b[i]", 52)
	w.op("MOVQ a_base+0(FP), SI")
	w.op("MOVQ a_len+8(FP), CX")
	w.op("MOVQ b_base+24(FP), DX")
	l := &loop{w: w, isa: v}
	l.clearAcc()
	l.run(func(u int) {
		l.load("SI", u, v.r(4))
		l.load("DX", u, v.r(5))
		w.op("VFMADD231PS %s, %s, %s", v.r(4), v.r(5), v.r(u))
	})
	l.reduce("VADD", "ret+48(FP)")
}

func sum(w *writer, v isa) {
	w.fn("sum"+v.name, "(x []float32) float32", "Σ x[i]", 28)
	w.op("MOVQ x_base+0(FP), SI")
	w.op("MOVQ x_len+8(FP), CX")
	l := &loop{w: w, isa: v}
	l.clearAcc()
	l.run(func(u int) {
		l.load("SI", u, v.r(4))
		w.op("VADDPS %s, %s, %s", v.r(4), v.r(u), v.r(u))
	})
	l.reduce("VADD", "ret+24(FP)")
}

func maximum(w *writer, v isa) {
	w.fn("max"+v.name, "(x []float32) float32", "the largest x[i], or -Inf", 28)
	w.op("MOVQ x_base+0(FP), SI")
	w.op("MOVQ x_len+8(FP), CX")
	l := &loop{w: w, isa: v}
	w.op("VMOVUPS %s, %s", constant("none"), v.r(5))
	for u := range l.parts() {
		w.op("VMOVUPS %s, %s", v.r(5), v.r(u))
	}
	l.run(func(u int) {
		l.load("SI", u, v.r(4))
		switch {
		case l.masked && v.bytes == 64:
			w.op("VMAXPS %s, %s, K1, %s", v.r(u), v.r(4), v.r(u))
			return
		case l.masked:
			w.op("VBLENDVPS Y15, Y4, Y5, Y4")
		}
		w.op("VMAXPS %s, %s, %s", v.r(u), v.r(4), v.r(u)) // the running maximum wins over NaN
	})
	l.reduce("VMAX", "ret+24(FP)")
}

func axpy(w *writer, v isa) {
	w.fn("axpy"+v.name, "(y []float32, alpha float32, x []float32)", "y[i] += alpha*x[i]", 56)
	w.op("MOVQ y_base+0(FP), DI")
	w.op("MOVQ x_base+32(FP), SI")
	w.op("MOVQ x_len+40(FP), CX")
	w.op("VBROADCASTSS alpha+24(FP), %s", v.r(6))
	l := &loop{w: w, isa: v}
	l.run(func(u int) {
		l.load("SI", u, v.r(4))
		l.load("DI", u, v.r(5))
		w.op("VFMADD231PS %s, %s, %s", v.r(4), v.r(6), v.r(5))
		l.store(v.r(5), "DI", u)
	})
	l.end()
}

func scale(w *writer, v isa) {
	w.fn("scale"+v.name, "(x []float32, alpha float32)", "x[i] *= alpha", 28)
	w.op("MOVQ x_base+0(FP), SI")
	w.op("MOVQ x_len+8(FP), CX")
	w.op("VBROADCASTSS alpha+24(FP), %s", v.r(6))
	l := &loop{w: w, isa: v}
	l.run(func(u int) {
		l.load("SI", u, v.r(4))
		w.op("VMULPS %s, %s, %s", v.r(6), v.r(4), v.r(4))
		l.store(v.r(4), "SI", u)
	})
	l.end()
}

func expKernel(w *writer, v isa) {
	w.fn("exp"+v.name, "(dst, src []float32)", "dst[i] = e^src[i]", 48)
	w.op("MOVQ dst_base+0(FP), DI")
	w.op("MOVQ src_base+24(FP), SI")
	w.op("MOVQ src_len+32(FP), CX")
	l := &loop{w: w, isa: v}
	l.run(func(u int) {
		l.load("SI", u, v.r(4))
		exp(w, v, v.r(4), v.r(5), v.r(6), v.r(7))
		l.store(v.r(4), "DI", u)
	})
	l.end()
}

func expSum(w *writer, v isa) {
	w.fn("expSum"+v.name, "(dst, src []float32, shift float32) float32", "dst[i] = e^(src[i]-shift); returns Σ dst[i]", 60)
	w.op("MOVQ dst_base+0(FP), DI")
	w.op("MOVQ src_base+24(FP), SI")
	w.op("MOVQ src_len+32(FP), CX")
	w.op("VBROADCASTSS shift+48(FP), %s", v.r(8))
	l := &loop{w: w, isa: v}
	l.clearAcc()
	l.run(func(u int) {
		l.load("SI", u, v.r(4))
		w.op("VSUBPS %s, %s, %s", v.r(8), v.r(4), v.r(4))
		exp(w, v, v.r(4), v.r(5), v.r(6), v.r(7))
		l.store(v.r(4), "DI", u)
		switch {
		case l.masked && v.bytes == 64:
			w.op("VADDPS %s, %s, K1, %s", v.r(4), v.r(u), v.r(u))
			return
		case l.masked:
			w.op("VANDPS Y15, Y4, Y4")
		}
		w.op("VADDPS %s, %s, %s", v.r(4), v.r(u), v.r(u))
	})
	l.reduce("VADD", "ret+56(FP)")
}

func siluMul(w *writer, v isa) {
	w.fn("siluMul"+v.name, "(y, gate, up []float32)", "y[i] = gate[i]/(1+e^-gate[i])*up[i]", 72)
	w.op("MOVQ y_base+0(FP), DI")
	w.op("MOVQ gate_base+24(FP), SI")
	w.op("MOVQ gate_len+32(FP), CX")
	w.op("MOVQ up_base+48(FP), DX")
	l := &loop{w: w, isa: v}
	l.run(func(u int) {
		l.load("SI", u, v.r(8))
		w.op("%s %s, %s, %s", map[int]string{32: "VPXOR", 64: "VPXORD"}[v.bytes], constant("sign"), v.r(8), v.r(4))
		exp(w, v, v.r(4), v.r(5), v.r(6), v.r(7))
		w.op("VADDPS %s, %s, %s", constant("one"), v.r(4), v.r(4))
		w.op("VDIVPS %s, %s, %s", v.r(4), v.r(8), v.r(4))
		l.load("DX", u, v.r(5))
		w.op("VMULPS %s, %s, %s", v.r(5), v.r(4), v.r(4))
		l.store(v.r(4), "DI", u)
	})
	l.end()
}

// siluMulBack computes what SiLUMulBack documents, product by product in the order of its plain body.
func siluMulBack(w *writer, v isa) {
	w.fn("siluMulBack"+v.name, "(dgate, dup, dy, gate, up []float32)", "s = 1/(1+e^-gate[i]): dup[i] = dy[i]*(gate[i]*s), dgate[i] = dy[i]*up[i]*s*(1+gate[i]*(1-s))", 120)
	w.op("MOVQ dgate_base+0(FP), DI")
	w.op("MOVQ dgate_len+8(FP), CX")
	w.op("MOVQ dup_base+24(FP), R10")
	w.op("MOVQ dy_base+48(FP), R11")
	w.op("MOVQ gate_base+72(FP), SI")
	w.op("MOVQ up_base+96(FP), DX")
	l := &loop{w: w, isa: v}
	l.run(func(u int) {
		l.load("SI", u, v.r(8))
		w.op("%s %s, %s, %s", map[int]string{32: "VPXOR", 64: "VPXORD"}[v.bytes], constant("sign"), v.r(8), v.r(4))
		exp(w, v, v.r(4), v.r(5), v.r(6), v.r(7))
		w.op("VMOVUPS %s, %s", constant("one"), v.r(9))
		w.op("VADDPS %s, %s, %s", v.r(9), v.r(4), v.r(4))
		w.op("VDIVPS %s, %s, %s", v.r(4), v.r(9), v.r(4)) // s
		l.load("R11", u, v.r(5))
		l.load("DX", u, v.r(6))
		w.op("VMULPS %s, %s, %s", v.r(6), v.r(5), v.r(6)) // dy*up
		w.op("VMULPS %s, %s, %s", v.r(4), v.r(8), v.r(7)) // gate*s
		w.op("VMULPS %s, %s, %s", v.r(7), v.r(5), v.r(5))
		l.store(v.r(5), "R10", u)
		w.op("VMULPS %s, %s, %s", v.r(4), v.r(6), v.r(6))
		w.op("VSUBPS %s, %s, %s", v.r(4), v.r(9), v.r(4)) // 1-s
		w.op("VMULPS %s, %s, %s", v.r(8), v.r(4), v.r(4))
		w.op("VADDPS %s, %s, %s", v.r(9), v.r(4), v.r(4))
		w.op("VMULPS %s, %s, %s", v.r(4), v.r(6), v.r(6))
		l.store(v.r(6), "DI", u)
	})
	l.end()
}

func add(w *writer, v isa) {
	w.fn("add"+v.name, "(y, x []float32)", "y[i] += x[i]", 48)
	w.op("MOVQ y_base+0(FP), DI")
	w.op("MOVQ x_base+24(FP), SI")
	w.op("MOVQ x_len+32(FP), CX")
	l := &loop{w: w, isa: v}
	l.run(func(u int) {
		l.load("SI", u, v.r(4))
		l.load("DI", u, v.r(5))
		w.op("VADDPS %s, %s, %s", v.r(4), v.r(5), v.r(5))
		l.store(v.r(5), "DI", u)
	})
	l.end()
}
